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

from controller.changes import WorkSignal
from controller.core.batches import FlowChange
from controller.core.demand import SUPPRESSED_FOR, Request
from controller.core.flow_sets import Path
from controller.core.flows import COOKIE_OWNER, ETH_TYPE_IPV4, ETH_TYPE_IPV6, Flow, Kind
from controller.core.pipeline import IPPROTO_IPIP, IPPROTO_IPV6, UPLINK
from controller.core.sessions import Session
from controller.southbound.conversation import Conversation
from controller.southbound.exchange import ChangesRefused
from hoaflow.addresses import Prefix, host

# Home addresses that wait to be looked at; further ones are dropped.
MOST_WAITING = 1000
# Of these, how many are looked at before other greenlets run.
SLICE = 20
# What a meter lets through: packets a second, and at once.
RATE, BURST = 500, 500

# ofp_header and ofp_packet_in up to its match (OpenFlow 1.3.5, section 7.4.1): table, cookie; length of the match.
_PACKET_IN = struct.Struct("!15xBQ2xH")
_MATCH_OFFSET = 24
_IPV6, _IPV4 = 40, 20  # octets of a header, of IPv4 the shortest
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
    inner = _Header.of(_ETH_TYPES.get(outer.protocol, 0), outer.payload)
    path = Path(outer.source, outer.destination, outer.protocol)
    return None if inner is None else Request(host(inner.source), path)


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


class PacketIns:
    """Ask the core for the flows of home addresses whose packets a switch tells of, and make the meters for that."""

    def __init__(self, session: Session, conversation: Conversation, notify: Callable[[], None]) -> None:
        """Call `notify` when the core may have something to send."""
        self._session = session
        self._conversation = conversation
        self._notify = notify
        self._waiting: dict[Prefix, Request] = {}
        self._work = WorkSignal()
        self._ended = False
        self.dropped = 0

    def take(self, message: bytes, names: dict[int, str]) -> None:
        """Take a PacketIn message. Raises ValueError, also struct.error, for a malformed one."""
        request = request_of(message, names)
        if request is None or request.home_address in self._waiting:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
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

    def run(self) -> None:
        """Look at what is waiting whenever nothing urgent is to be done. Raises SwitchSilent, SessionEnded."""
        while not self._ended:
            for meter in self._session.missing_meters():
                self._make(meter)
            if not self._waiting:
                self._work.wait()
            elif self._session.has_urgent:
                eventlet.sleep(0)
            else:
                self._look_at_some()

    def _make(self, meter: int) -> None:
        refused = self._conversation.make_meter(meter, RATE, BURST)
        if refused is None:
            self._session.have_meter(meter, time.monotonic())
        else:
            self._session.refuse_demand(refused, time.monotonic())
        self._notify()

    def _look_at_some(self) -> None:
        now = time.monotonic()
        suppressions: list[Flow] = []
        for home_address in list(islice(self._waiting, SLICE)):
            flow = self._session.ask(self._waiting.pop(home_address), now)
            if flow is not None:
                suppressions.append(flow)
        self._notify()
        if not suppressions:
            eventlet.sleep(0)
            return
        changes = [FlowChange(flow, True, now + SUPPRESSED_FOR, SUPPRESSED_FOR) for flow in suppressions]
        with suppress(ChangesRefused):  # without them more is told than need be, as often as the meters allow
            self._conversation.carry_out(changes)
