# SPDX-License-Identifier: Apache-2.0
"""Take what an on-demand router's switch tells of packets without flows: the least urgent work of all.

A queue holds what has not been looked at, each home address once. It is bounded: what finds it full is dropped and
counted, and the switch tells again, as the packets go on to the home agent meanwhile.
"""

import struct
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import eventlet
from eventlet.semaphore import Semaphore

from controller.changes import WorkSignal, give_way
from controller.core.flow_changes import FlowChange
from controller.core.flow_sets import Path
from controller.core.flows import COOKIE_OWNER, ETH_TYPE_IPV4, ETH_TYPE_IPV6, Flow, Kind
from controller.core.pipeline import IPPROTO_IPIP, IPPROTO_IPV6, UPLINK
from controller.core.sessions import Session
from controller.core.suppressions import SUPPRESSED_FOR, Request
from controller.southbound.conversation import Conversation
from controller.southbound.encoder import Meter
from controller.southbound.exchange import ChangesRefused
from hoaflow.addresses import Prefix, host, why_not_global_unicast

# Home addresses that wait to be looked at; further ones are dropped.
MOST_WAITING = 1000
# Of these, how many are looked at before other greenlets run.
SLICE = 20
# Seconds after which they are thought of again that have waited for something urgent.
LOOK_AGAIN = 0.01
# What each meter lets through.
METER = Meter(rate=500, burst=500)

# ofp_header and ofp_packet_in up to its match (OpenFlow 1.3.5, section 7.4.1): table, cookie; length of the match.
_PACKET_IN = struct.Struct("!15xBQ2xH")
_MATCH_OFFSET = 24
_IPV6, _IPV4 = 40, 20  # octets of a header, of IPv4 the shortest
# The IPv6 extension headers that may precede what is in a tunnel: Hop-by-Hop Options, Routing, Destination Options, as
# the Tunnel Encapsulation Limit (RFC 2473 section 4.1.1), with which Linux begins by default.
_EXTENSIONS = (0, 43, 60)
_ETH_TYPES = {IPPROTO_IPV6: ETH_TYPE_IPV6, IPPROTO_IPIP: ETH_TYPE_IPV4}
_ETHERNET, _VLAN_TAG, _ETH_TYPE_VLAN = 14, 4, 0x8100
_OF_PACKET_INS = COOKIE_OWNER | Kind.PACKET_IN


def request_of(message: bytes, names: dict[int, str]) -> Request | None:
    """Return what a PacketIn message asks for, None for nothing. `names`: those of hoaflow's tables, by number.

    Raises ValueError, also struct.error, for a malformed one.
    """
    table, cookie, length = _PACKET_IN.unpack_from(message)
    if cookie != _OF_PACKET_INS:
        return None
    begin = _MATCH_OFFSET + (length + 7) // 8 * 8 + 2
    (eth_type,) = struct.unpack_from("!H", message, begin + 12)
    begin += _ETHERNET
    if eth_type == _ETH_TYPE_VLAN:
        (eth_type,) = struct.unpack_from("!H", message, begin + 2)
        begin += _VLAN_TAG
    outer = _Header.of(eth_type, message[begin:])
    if outer is None or names.get(table) != UPLINK:
        return None if outer is None else Request(host(outer.destination), None)
    outer = outer.past_extensions()
    inner = _Header.of(_ETH_TYPES.get(outer.protocol, 0), outer.payload)
    path = Path(outer.source, outer.destination, outer.protocol)
    if inner is None or why_not_global_unicast(host(inner.source)) is not None:
        return None  # such as multicast listener reports
    return Request(host(inner.source), path)


class _Header(NamedTuple):
    """What an IPv6 or IPv4 header says: its addresses, the protocol behind it, and what follows."""

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes

    @classmethod
    def of(cls, eth_type: int, packet: bytes) -> "_Header | None":
        """Read the header at the start of a packet; None if there is no whole one."""
        if eth_type == ETH_TYPE_IPV6 and len(packet) >= _IPV6:
            return cls(packet[8:24], packet[24:40], packet[6], packet[_IPV6:])
        if eth_type == ETH_TYPE_IPV4 and len(packet) >= _IPV4:
            return cls(packet[12:16], packet[16:20], packet[9], packet[(packet[0] & 0xF) * 4 :])
        return None

    def past_extensions(self) -> "_Header":
        """Return the header as if what follows its extension headers followed at once."""
        protocol, payload = self.protocol, self.payload
        while len(self.source) == 16 and protocol in _EXTENSIONS and len(payload) >= 2:
            protocol, payload = payload[0], payload[8 * (payload[1] + 1) :]
        return self._replace(protocol=protocol, payload=payload)


class PacketIns:
    """Ask the core for the flows of home addresses whose packets a switch tells of, and make the meters for that."""

    def __init__(
        self,
        session: Session,
        conversation: Conversation,
        notify: Callable[[], None],
        turn: Semaphore,
        wait_until_certain: Callable[[], None],
    ) -> None:
        """Call `notify` when the core may have something to send, and `wait_until_certain` before anything is sent.

        `turn` is shared by all switches: what they tell is looked at for one of them at a time, or a thousand slices
        would follow one another before anybody else runs.
        """
        self._session = session
        self._conversation = conversation
        self._notify = notify
        self._turn = turn
        self._wait_until_certain = wait_until_certain
        self._waiting: dict[Prefix, Request] = {}
        self._made: set[int] = set()  # meters that were made, or found as they should be, on this connection
        self._work = WorkSignal()
        self._ended = False

    def take(self, message: bytes, names: dict[int, str]) -> None:
        """Take a PacketIn message. Raises ValueError, also struct.error, for a malformed one."""
        if len(self._waiting) >= MOST_WAITING:
            self._session.dropped_unread()
            return
        request = request_of(message, names)
        if request is not None and request.home_address not in self._waiting:
            self._waiting[request.home_address] = request
            self._work.notify()

    def wake(self) -> None:
        """Have meters made that are missing."""
        if self._session.missing_meters():
            self._work.notify()

    def end(self) -> None:
        """End `run`."""
        self._ended = True
        self._work.notify()

    def check_meters(self) -> None:
        """Find out whether somebody has removed or changed meters, which are then made again. Raises SwitchSilent."""
        expected = self._session.meters
        if not expected:
            return
        found = self._conversation.read_meters()
        if lost := [meter for meter in expected if found.get(meter) != METER]:
            self._session.lost_meters(lost, time.monotonic())

    def run(self) -> None:
        """Look at what is waiting whenever nothing urgent is to be done. Raises SwitchSilent, SessionEnded."""
        while not self._ended:
            if missing := self._session.missing_meters():
                self._make(missing)
            elif not self._waiting:
                self._work.wait()
            elif self._session.has_urgent:
                eventlet.sleep(LOOK_AGAIN)
            else:
                self._suppress(self._look_at_some())

    def _make(self, missing: list[int]) -> None:
        """Make meters, unless the switch has them; one that something else has made is left alone."""
        self._wait_until_certain()
        found = self._conversation.read_meters()
        refused: str | None = None
        made: list[int] = []
        for meter in missing:
            if found.get(meter) != METER:
                ours = meter not in found or meter in self._made
                refused = f"meter {meter} is there already, and not hoaflow's"
                if ours:
                    refused = self._conversation.make_meter(meter, METER, add=meter not in found)
            if refused is not None:
                break
            made.append(meter)
        self._made.update(made)
        self._session.have_meters(made, time.monotonic())
        if refused is not None:
            self._session.refuse_demand(refused, time.monotonic())
        self._notify()

    def _look_at_some(self) -> list[Flow]:
        """Look at some of what is waiting; return the flows by which no more is told of what can't be offloaded."""
        with self._turn:
            now = time.monotonic()
            waiting = [self._waiting.pop(each) for each in list(islice(self._waiting, SLICE))]
            flows = [flow for request in waiting if (flow := self._session.ask(request, now)) is not None]
            self._notify()
            give_way()
        return flows

    def _suppress(self, flows: list[Flow]) -> None:
        if not flows:
            return
        self._wait_until_certain()
        now = time.monotonic()
        changes = [FlowChange(flow, True, now + SUPPRESSED_FOR, SUPPRESSED_FOR) for flow in flows]
        with suppress(ChangesRefused):  # without them more is told than need be, as often as the meters allow
            self._conversation.carry_out(changes)
