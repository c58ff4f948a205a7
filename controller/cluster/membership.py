# SPDX-License-Identifier: Apache-2.0
"""Be a member of a cluster: hold a lease in etcd, follow what etcd holds, and carry out what follows for each router.

Each loop is a greenlet. They share one `Mastership`, which decides, and give it what etcd and the switches say.
"""

import secrets
import time
from collections.abc import Callable
from typing import Protocol

import eventlet

from controller.changes import ChangeSignal
from controller.cluster.commands import (
    Elect,
    GiveUp,
    MasteredBy,
    Resign,
    TakenByStranger,
    TakeRole,
    election,
    resignation,
)
from controller.cluster.mastership import Mastership
from controller.cluster.peers import Peers
from controller.cluster.process_watch import ProcessWatch
from controller.cluster.records import Keys, MemberRecord, Records, identification, registration
from controller.cluster.view import Etcd, Member, NotRecorded, RouterMaster, View
from controller.core.events import Event
from hoaflow.etcd import EtcdClient, EtcdError, follow
from hoaflow.etcd.messages import Transaction, delete, put
from hoaflow.logs import Log

LOG = Log("cluster")

# Times that a lease is renewed while it would last. Fewer, and one lost answer ends it; more only load etcd.
RENEWALS_PER_LEASE = 3
# Shortest pause between two renewals, in seconds, when etcd has answered late or not at all.
SHORTEST_PAUSE = 0.1
# Longest sleep when nothing is planned, in seconds.
LONGEST_SLEEP = 60.0
# Registrations for which another process may hold the member's name: a member that was killed leaves it for one lease.
NAME_TAKEN_AFTER = 3 * RENEWALS_PER_LEASE

# After a decision, so many times what it took is left to all else, at most so many seconds: with a thousand routers it
# takes milliseconds, and at a takeover as many of them change, each by itself.
REST, LONGEST_REST = 3, 0.1

LEASE_LOST = (
    "etcd has this member's lease no more: it had no sign of life of this member, or has lost its data, or another"
    " member has taken this one for gone (its log says so)"
)


class Roles(Protocol):
    """Carry out on the switches what the cluster decides (`controller.southbound.roles`)."""

    def take_role(self, dpid: int, generation: int) -> None:
        """Become a switch's MASTER."""

    def give_up(self, dpid: int) -> None:
        """Stop writing to a switch."""

    def mastered_by(self, dpid: int, member: str | None) -> None:
        """Take in which other member is a switch's master."""

    def taken_by_stranger(self, dpid: int, generation: int | None) -> None:
        """Take in that a stranger has taken a switch from this member, master with a generation; None: it is over."""


class Membership:
    """One member of the cluster with a name, itself; `lease` is in seconds. `peers` calls the others.

    `home_agents` returns those whose bridges report to this member. `announce` is called with events of the cluster.
    """

    def __init__(
        self,
        etcd: EtcdClient,
        cluster: str,
        member: Member,
        lease: int,
        peers: Peers,
        home_agents: Callable[[], frozenset[str]],
        announce: Callable[[Event], None],
    ) -> None:
        self._cluster = cluster
        self.identity: str | None = None  # by etcd's last word
        self._etcd = etcd
        self._keys = Keys(cluster)
        self._member = member
        self._lease_lasts = lease
        self._home_agents = home_agents
        self._announce = announce
        self._mastership = Mastership(member.name)
        self._processes = ProcessWatch(member.name, peers, etcd.revoke_lease)
        self._records = Records()
        self._lease: int | None = None
        self._refused = 0  # registrations in a row
        self._etcd_state: Etcd | None = None  # until it has answered, or not
        self._troubles: dict[str, EtcdError] = {}
        self._woken = ChangeSignal()
        self._stopped = False

    # Called by the southbound.

    def switch_connected(self, dpid: int, generation: int | None) -> None:
        """Take in that a switch is connected and has this member as SLAVE; `generation`: the newest it knows."""
        self._mastership.switch_connected(dpid, generation)
        self._woken.notify()

    def switch_gone(self, dpid: int) -> None:
        """Take in that a switch's connection has ended."""
        self._mastership.switch_gone(dpid)
        self._woken.notify()

    def role_taken(self, dpid: int, generation: int) -> None:
        """Take in that a switch has confirmed this member as its MASTER."""
        self._mastership.role_taken(dpid, generation)
        self._woken.notify()

    def role_refused(self, dpid: int, generation: int | None) -> None:
        """Take in that the role is not to be had with the generation granted; `generation`: the newest it knows."""
        self._mastership.role_refused(dpid, generation)
        self._woken.notify()

    def overtaken(self, dpid: int) -> None:
        """Take in that a switch has another MASTER now."""
        self._mastership.overtaken(dpid, time.monotonic())
        self._woken.notify()

    def is_drained(self, dpid: int) -> bool:
        """Tell whether an operator has taken a router out of service, by what etcd last said."""
        return self._records.router(dpid).drained

    def wait_until_identified(self) -> None:
        """Wait for news if the cluster's identity is not known yet."""
        if self.identity is None:
            self._woken.wait(LONGEST_SLEEP)

    def wait_until_certain(self) -> None:
        """Wait while this member may have been overtaken without knowing (`Mastership.is_certain`)."""
        while not self._mastership.is_certain(time.monotonic()):
            self._woken.wait(LONGEST_SLEEP)

    # Called by the REST API.

    def view(self) -> View:
        """Return the cluster as it is now, by what etcd last said. Does no I/O."""
        members = {name: record.member for name, record in self._records.members.items()}
        routers = {
            dpid: RouterMaster(each.master, each.generation, each.since, each.reason, each.drained)
            for dpid, each in self._records.routers.items()
        }
        name = self._member.name
        etcd = self._etcd_state or Etcd(False, self._member.started)
        return View(self._cluster, name, {**members, name: self._member}, routers, etcd, self._is_name_taken)

    def master_and_generation(self, dpid: int) -> tuple[bool, int]:
        """Tell, by what etcd last said, whether this member is a router's master, and its masters' generation."""
        record = self._records.routers.get(dpid)
        return (False, 0) if record is None else (record.master == self._member.name, record.generation)

    def record_drain(self, dpid: int, draining: bool) -> None:
        """Have etcd keep that a router is out of service, or back in it. Raises NotRecorded."""
        key = self._keys.drained(dpid)
        try:
            self._etcd.transact([], [put(key, "") if draining else delete(key)])
        except EtcdError as error:
            raise NotRecorded(str(error)) from None

    # The greenlets.

    def loops(self, roles: Roles) -> list[Callable[[], None]]:
        """Return the loops of which each is to run in a greenlet; `roles` carries out what is decided."""
        return [self._keep_lease, self._follow_records, lambda: self._keep_masterships(roles)]

    def _keep_lease(self) -> None:
        """Hold a lease, and register this member under it, until `stop`."""
        while not self._stopped:
            asked = time.monotonic()
            self._mastership.asking(asked)
            try:
                self._renew(asked)
            except EtcdError as error:
                self._note_etcd("lease", error)
            else:
                self._note_etcd("lease", None)
            self._woken.notify()
            pause = asked + self._lease_lasts / RENEWALS_PER_LEASE - time.monotonic()
            eventlet.sleep(max(pause, SHORTEST_PAUSE))

    def _follow_records(self) -> None:
        """Take in all that etcd holds of the cluster, as it changes."""
        for changes in follow(self._etcd, self._keys.prefix, lambda error: self._note_etcd("records", error)):
            self._note_etcd("records", None)
            if not changes:
                continue
            records, unusable = self._keys.updated(self._records, changes)
            if unusable:
                LOG.warning("keys-unusable", keys=", ".join(unusable), reason="hoaflow has not written them so")
            former, self._records = self._records, records
            self.identity = records.identity or self.identity  # etcd may have lost it
            self._mastership.observe(records)
            self._processes.observe(records)
            self._woken.notify()
            self._announce_changes(former, records)

    def _keep_masterships(self, roles: Roles) -> None:
        """Carry out what follows for each router, until `stop`."""
        while not self._stopped:
            now = time.monotonic()
            for command in self._mastership.decide(now):
                match command:
                    case TakeRole(dpid, generation):
                        roles.take_role(dpid, generation)
                    case GiveUp(dpid):
                        roles.give_up(dpid)
                    case MasteredBy(dpid, member):
                        roles.mastered_by(dpid, member)
                    case TakenByStranger(dpid, generation):
                        roles.taken_by_stranger(dpid, generation)
                    case Elect(dpid):
                        eventlet.spawn_n(self._change_master, dpid, election(self._keys, command, time.time()))
                    case Resign(dpid):
                        eventlet.spawn_n(self._change_master, dpid, resignation(self._keys, command))
            took = time.monotonic() - now
            self._woken.wait(min(LONGEST_SLEEP, self._mastership.next_look() - now))
            eventlet.sleep(min(REST * took, LONGEST_REST))

    def stop(self) -> None:
        """Leave the cluster: end the lease, so that other members take over at once."""
        self._stopped = True
        if self._lease is not None:
            try:
                self._etcd.revoke_lease(self._lease)
            except EtcdError as error:
                LOG.warning("lease-not-revoked", reason=error)

    # Parts of them.

    def _renew(self, asked: float) -> None:
        """Renew the lease, or get a new one, and keep the member's record as it is. Raises EtcdError."""
        if self._lease is not None and not self._etcd.keep_alive(self._lease):
            LOG.warning("lease-lost", reason=LEASE_LOST)
            self._lease = None
            self._mastership.lease_lost()
            self._woken.notify()
            asked = time.monotonic()
            self._mastership.asking(asked)
        if self._stopped:
            return  # what was revoked is not to be granted again
        if self._lease is None:
            self._lease = self._etcd.grant_lease(self._lease_lasts)
        self._mastership.lease_renewed(self._lease, asked, self._lease_lasts)
        if self._records.identity is None:
            self._identify()
        record = MemberRecord(self._member, self._lease, self._mastership.connected, self._home_agents())
        if (transaction := registration(self._keys, self._records, record)) is not None:
            self._note_name(self._etcd.transact(*transaction))

    def _identify(self) -> None:
        """Give the cluster an identity, if it has none. Raises EtcdError.

        Members without one are from before there was any, and mark switches by the cluster's name. It becomes the
        identity, so that they take nobody for another cluster's while they are replaced one by one.
        """
        _, members = self._etcd.get_all(self._keys.member(""))
        identity = self.identity or (self._cluster if members else secrets.token_hex(16))
        self._etcd.transact(*identification(self._keys, identity))

    @property
    def _is_name_taken(self) -> bool:
        return self._refused >= NAME_TAKEN_AFTER

    def _note_name(self, registered: bool) -> None:
        """Announce that another process has this member's name, if it keeps it for longer than one that was killed."""
        self._refused = 0 if registered else self._refused + 1
        if self._refused == NAME_TAKEN_AFTER:
            self._announce(Event("member-name-taken", {"member": self._member.name}))

    def _change_master(self, dpid: int, transaction: Transaction) -> None:
        """Have etcd give a router another master, or none. What it did is seen in the records."""
        try:
            self._etcd.transact(*transaction)
        except EtcdError as error:
            LOG.warning("election-failed", router=f"{dpid:016x}", reason=error)

    def _note_etcd(self, loop: str, error: EtcdError | None) -> None:
        """Take in how etcd has answered one of the loops, and announce when it stops or begins to answer both."""
        self._troubles.pop(loop, None)
        if error is not None:
            self._troubles[loop] = error
        reachable = not self._troubles
        if self._etcd_state is None or self._etcd_state.reachable != reachable:
            self._etcd_state = Etcd(reachable, time.time())
            self._announce(
                Event("etcd-reachable", {}) if reachable else Event("etcd-unreachable", {"reason": str(error)})
            )

    def _announce_changes(self, former: Records, present: Records) -> None:
        for name in sorted(present.members.keys() - former.members.keys()):
            self._announce(Event("member-joined", {"member": name}))
        # That it has none of this member itself is no leaving: `lease-lost` says so.
        for name in sorted(former.members.keys() - present.members.keys() - {self._member.name}):
            self._announce(Event("member-left", {"member": name}))
        known = former.shared_urls()
        for url, names in present.shared_urls().items():
            if names != known.get(url):
                self._announce(Event("member-url-shared", {"url": url, "members": ", ".join(names)}))
        for dpid, record in sorted(present.routers.items()):
            if record.master is not None and record.revision != former.router(dpid).revision:
                self._announce(
                    Event(
                        "master-changed",
                        {
                            "router": f"{dpid:016x}",
                            "master": record.master,
                            "generation": record.generation,
                            "reason": record.reason,
                        },
                    )
                )
