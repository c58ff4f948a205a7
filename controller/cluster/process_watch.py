# SPDX-License-Identifier: Apache-2.0
"""Notice at once that another member's process has ended, and end its lease, so that nobody has to wait for that.

A connection is held to each member. A kernel ends the connections of a process that has ended, and refuses new ones:
both together show it. A process that is paused, a host without power and a network that is cut refuse nothing; their
leases run out, as ever. One that has been started again accepts, and is known by its start.

It need not be right: a lease that ends early changes masters, and the switch refuses the former one, as ever. What may
look like an end is something between the members that refuses in another's name. An address that is not the member's
own, as a proxy's, is therefore not looked at. A firewall's resets can't be told from the member's own: they cost one
change of masters, for a member that is found to live is not taken for gone again. So two members need not agree either.
"""

import json
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple

import eventlet
from eventlet import hubs

from controller.cluster.peers import PeerFailed, Peers
from controller.cluster.records import MemberRecord, Records
from controller.cluster.view import Member
from controller.events import rfc3339
from hoaflow.addresses import format_endpoint
from hoaflow.client.errors import AccessError
from hoaflow.etcd import EtcdError
from hoaflow.logs import Log

LOG = Log("cluster")

# Seconds. To connect, and for the answer.
ANSWERED_WITHIN = 2.0
# Until the member is asked again on the same connection: otherwise it would end it as idle, and that of a host without
# power would never end.
ASKED_AGAIN_AFTER = 5.0
# Until the next attempt where there was no connection to hold, and where it has ended and a new one is accepted.
PAUSE, SHORT_PAUSE = 1.0, 0.1
# Attempts to connect after a connection has ended: a process that ends may accept for a moment after it.
ATTEMPTS, BETWEEN_ATTEMPTS = 3, 0.05
# For how long etcd is asked to end the lease, and how often: the member's host may have had etcd's leader.
ENDED_WITHIN, ASKED_EVERY = 10.0, 0.2
LARGEST = 1 << 20  # octets of an answer
# What reading an answer raises that is not a member's.
NONSENSE = (ValueError, LookupError, TypeError, RecursionError)


class _Watched(NamedTuple):
    member: Member
    end: Callable[[], None]


class ProcessWatch:
    """Watch the processes of the members other than `own`; `end_lease` has etcd end a lease, and raises EtcdError."""

    def __init__(self, own: str, peers: Peers, end_lease: Callable[[int], None]) -> None:
        self._own = own
        self._peers = peers
        self._end_lease = end_lease
        self._records = Records()
        self._watched: dict[str, _Watched] = {}
        self._taken_for_gone: dict[str, MemberRecord] = {}
        self._told: dict[str, Member] = {}  # members of which the log says whether they are watched

    def observe(self, records: Records) -> None:
        """Take in what etcd holds: watch whoever is in it, and nobody else."""
        self._records = records
        for name, watched in list(self._watched.items()):
            if (record := records.members.get(name)) is None or record.member != watched.member:
                del self._watched[name]
                watched.end()
        for name, record in records.members.items():
            if name != self._own and name not in self._watched:
                does = self._leave_alone if self._is_believed_no_more(record) else self._watch
                self._watched[name] = _Watched(record.member, eventlet.spawn(does, record.member).kill)

    def _is_believed_no_more(self, record: MemberRecord) -> bool:
        former = self._taken_for_gone.get(record.member.name)
        return former is not None and former.member == record.member

    def _leave_alone(self, member: Member) -> None:
        reason = "it was taken for gone, and lives: something between ends its connections and refuses new ones"
        LOG.warning("member-not-gone", member=member.name, url=member.url, reason=reason)

    def _watch(self, member: Member) -> None:
        """Look at a member's process until it has ended."""
        while True:
            address = self._hold_connection(member)
            if address is not None and _refuses(address):
                self._take_for_gone(member, address)
                return
            eventlet.sleep(PAUSE if address is None else SHORT_PAUSE)

    def _hold_connection(self, member: Member) -> Any | None:
        """Return the address of a connection to the member once that has ended, None if there was none to hold."""
        address = None
        with (
            suppress(PeerFailed, AccessError, HTTPException, OSError, *NONSENSE),
            closing(self._peers.connection(member, ANSWERED_WITHIN)) as connection,
        ):
            while (address := _address_of(connection, self._peers.headers(member), member)) is not None:
                self._tell("member-watched", member, "others notice at once when its process ends")
                if _ends(connection.sock, ASKED_AGAIN_AFTER):
                    return address
            self._tell("member-not-watched", member, "its member_url is not its own address, so only its lease counts")
        return address

    def _tell(self, event: str, member: Member, reason: str) -> None:
        if self._told.get(member.name) != member:
            self._told[member.name] = member
            LOG.info(event, member=member.name, url=member.url, reason=reason)

    def _take_for_gone(self, member: Member, address: Any) -> None:
        """End the lease of a member that is gone, by what etcd says is its lease."""
        record = self._records.members[member.name]
        self._taken_for_gone[member.name] = record
        reason = f"its connection has ended, and {format_endpoint(*address[:2])} refuses another"
        LOG.warning("member-gone", member=member.name, reason=reason)
        until = time.monotonic() + ENDED_WITHIN
        while time.monotonic() < until:
            try:
                self._end_lease(record.lease)
            except EtcdError as error:
                LOG.warning("lease-not-ended", member=member.name, reason=error)
                eventlet.sleep(ASKED_EVERY)
            else:
                return


def _address_of(connection: HTTPConnection, headers: dict[str, str], member: Member) -> Any | None:
    """Ask a member's process on a connection, and return its address; None if it is not that process's own.

    Raises OSError, HTTPException or one of NONSENSE if there is no answer of a member.
    """
    connection.request("GET", "/v1/cluster?routers=no", headers=headers)
    said = json.loads(connection.getresponse().read(LARGEST))
    started = {each["name"]: each["started"] for each in said["members"]}
    is_this = said["member"] == member.name and started[member.name] == rfc3339(member.started)
    if connection.sock is None:
        return None  # the answer's end was the connection's
    address = connection.sock.getpeername()
    return address if is_this and said["address"] == format_endpoint(*address[:2]) else None


def _ends(connection: socket.socket, within: float) -> bool:
    """Tell whether a connection ends within so many seconds: it can be read then, though nothing was asked."""
    try:
        hubs.trampoline(connection, read=True, timeout=within, timeout_exc=TimeoutError)
    except TimeoutError:
        return False
    return True


def _refuses(address: Any) -> bool:
    """Tell whether an address refuses connections, and does not just not answer."""
    for _ in range(ATTEMPTS):
        with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as attempt:
            attempt.settimeout(ANSWERED_WITHIN)
            try:
                attempt.connect(address)
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
        eventlet.sleep(BETWEEN_ATTEMPTS)
    return False
