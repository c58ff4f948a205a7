# SPDX-License-Identifier: Apache-2.0
"""Hear mobile nodes on access links: their Router Solicitations, their neighbour entries, and links that lose them."""

import contextlib
import errno
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address
from typing import NamedTuple

from hoaflow.linux import (
    AF_INET6,
    NDA_DST,
    NLM_F_REPLACE,
    RTM_DELNEIGH,
    RTM_GETNEIGH,
    RTM_NEWNEIGH,
    SO_RCVBUFFORCE,
)
from hoaflow.logs import Log
from hoaflow.mobility.packet_io import BATCH, LinkSender, PacketReceiver, router_solicitations
from hoaflow.tunnel.actual_state import NDA_LLADDR, NDMSG, ActualState
from hoaflow.tunnel.rtnetlink import HEADER, RouteSocket, attribute, attributes

RTMGRP_LINK, RTMGRP_NEIGH = 0x1, 0x4
NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_FAILED = 0x02, 0x04, 0x08, 0x10, 0x20
PRESENT = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE
RECEIVE_BYTES = 1 << 16
QUEUED_BYTES = 1 << 24
"""Room for some ten thousand reports: as many come at once when a cell's mobile nodes do."""
MOST_QUEUED = QUEUED_BYTES >> 8
"""More reports than that room holds."""
ASKED_AT_ONCE = 50
"""Neighbours whose answers find room in any queue: each makes two reports, and net.core.rmem_default holds 250."""
HOP_LIMIT = 255

LOG = Log("mag")


class Heard(NamedTuple):
    """A mobile node heard on a link: its MAC address, and its link-local address if it has told."""

    link: str
    mac: bytes
    link_local: str | None


class Lost(NamedTuple):
    """A neighbour that does not answer any more."""

    link: str
    address: str


class AccessLink:
    """One access link's sockets."""

    def __init__(self, interface: str) -> None:
        """Open them. Raises OSError."""
        self.interface = interface
        self.sender = LinkSender(interface)
        self.receiver = PacketReceiver(router_solicitations(), interface)

    def solicitations(self) -> Iterator[Heard]:
        """Yield who solicits a router, from what has arrived."""
        for packet, mac in self.receiver.frames():
            if packet[7] != HOP_LIMIT:  # RFC 4861, section 6.1.1: from the link itself
                continue
            source = IPv6Address(packet[8:24])
            yield Heard(self.interface, mac, str(source) if source.is_link_local else None)

    def close(self) -> None:
        """Close them."""
        self.sender.close()
        self.receiver.close()


class Neighbours:
    """The neighbours that the kernel has reported, to tell who is heard from an entry that only ages. Pure.

    Long after a mobile node has left a link, its entry there is reported as stale, and probed. That tells nothing of
    where it is: taken for a sign of life, it would fetch the mobile node back from wherever it is.
    """

    def __init__(self) -> None:
        self._macs: dict[tuple[int, bytes], bytes] = {}  # by the link's index and the neighbour's address

    def report(self, kind: int, message: bytes, links: dict[int, str]) -> Heard | Lost | None:
        """Take a report; return what it tells of a neighbour on one of these links, None for nothing new.

        A neighbour is heard when its entry appears, when its MAC address changes, and when it has answered.
        """
        family, index, state, _, _ = NDMSG.unpack_from(message)
        facts = dict(attributes(message[NDMSG.size :]))
        if family != AF_INET6 or index not in links or NDA_DST not in facts:
            return None
        address, mac = IPv6Address(facts[NDA_DST]), facts.get(NDA_LLADDR)
        key = index, address.packed
        if kind == RTM_DELNEIGH or mac is None or not state & PRESENT:
            self._macs.pop(key, None)
            failed = kind == RTM_NEWNEIGH and state & NUD_FAILED
            return Lost(links[index], str(address)) if failed else None
        former = self._macs.get(key)
        self._macs[key] = mac
        if mac == former and not state & NUD_REACHABLE:
            return None
        return Heard(links[index], mac, str(address) if address.is_link_local else None)

    def keep(self, listed: Iterable[bytes]) -> None:
        """Forget those that are not among the entries that the kernel lists: reports of their end may be lost."""
        known = set(map(_key, listed))
        self._macs = {key: mac for key, mac in self._macs.items() if key in known}


class Neighbourhood:
    """The kernel's reports of neighbours and links."""

    def __init__(self, links: tuple[str, ...]) -> None:
        """Listen. Raises OSError."""
        self._links, self._neighbours = links, Neighbours()
        self._to_ask: list[bytes] = []
        self._reports_lost = False
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        # In a user namespace the kernel does not exceed net.core.rmem_max for us: then reports are lost sooner.
        with contextlib.suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUED_BYTES)
        self._socket.bind((0, RTMGRP_LINK | RTMGRP_NEIGH))

    def fileno(self) -> int:
        """Return its descriptor, for selectors."""
        return self._socket.fileno()

    def probe(self) -> list[Lost]:
        """Read the kernel's neighbours, and have it ask those that may be there; `reports` has who answers.

        Call this first, as an entry that an earlier process has left is no sign of life (see `Neighbours`), and when
        reports were lost. Returns those that do not answer. Raises OSError.
        """
        indexes = dict(self._indexes())
        with contextlib.closing(RouteSocket()) as netlink:
            listed = list(netlink.listing(RTM_GETNEIGH, NDMSG.pack(AF_INET6, 0, 0, 0, 0)))
        self._neighbours.keep(listed)
        told = [(entry, self._neighbours.report(RTM_NEWNEIGH, entry, indexes)) for entry in listed]
        self._to_ask = [entry for entry, report in told if isinstance(report, Heard)]
        self._ask()
        return [report for _, report in told if isinstance(report, Lost)]

    def reports(self) -> Iterator[Heard | Lost]:
        """Yield what neighbours tell, from reports that have arrived. Ask `down` afterwards.

        They are at most BATCH, or all that are queued if others were lost.
        """
        indexes = dict(self._indexes())
        for read in range(MOST_QUEUED):
            if read >= BATCH and not self._reports_lost:
                return
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                # Not before: a full queue has no room for answers, and says only once that it was full.
                if self._reports_lost:
                    self._reports_lost = False
                    LOG.warning("reports-lost", action="ask all neighbours")
                    yield from self.probe()
                elif self._to_ask:
                    self._ask()
                else:
                    return
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._reports_lost = True
                continue
            while len(data) >= HEADER.size:
                length, kind, *_ = HEADER.unpack_from(data)
                if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
                    report = self._neighbours.report(kind, data[HEADER.size : length], indexes)
                    if report is not None:
                        yield report
                data = data[length + 3 & ~3 :]

    def down(self) -> list[str]:
        """Return the access links that are missing, down or without a carrier."""
        with ActualState() as actual:
            links = actual.links(None)
        return [name for name in self._links if name not in links or not links[name].running]

    def close(self) -> None:
        """Close its socket."""
        self._socket.close()

    def _ask(self) -> None:
        """Have the kernel ask the next neighbours, whose reports make `fileno` readable again."""
        some, self._to_ask = self._to_ask[:ASKED_AT_ONCE], self._to_ask[ASKED_AT_ONCE:]
        with contextlib.closing(RouteSocket()) as netlink:
            # Of what has gone meanwhile, the kernel says so: there is nobody left to ask.
            netlink.request(RTM_NEWNEIGH, NLM_F_REPLACE, map(_probed, some))

    def _indexes(self) -> Iterator[tuple[int, str]]:
        return ((number, name) for number, name in socket.if_nameindex() if name in self._links)


def _key(entry: bytes) -> tuple[int, bytes]:
    """Return the link's index and the address of a neighbour that the kernel lists."""
    return NDMSG.unpack_from(entry)[1], dict(attributes(entry[NDMSG.size :])).get(NDA_DST, b"")


def _probed(entry: bytes) -> bytes:
    """Return the message that has the kernel probe a neighbour of its table."""
    family, index, *_ = NDMSG.unpack_from(entry)
    facts = dict(attributes(entry[NDMSG.size :]))
    body = b"".join(attribute(each, facts[each]) for each in (NDA_DST, NDA_LLADDR))
    return NDMSG.pack(family, index, NUD_PROBE, 0, 0) + body
