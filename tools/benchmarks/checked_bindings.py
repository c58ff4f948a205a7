# SPDX-License-Identifier: Apache-2.0
"""Check and keep bindings, without hoaflow, as little as any controller has to that follows home agents.

Types and addresses are checked, sequence numbers compared (RFC 6275 section 9.5.1), the ends of lifetimes kept in
order, and for each switch what it has confirmed. There are no events, metrics, history, leases, gates or refusals.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from socket import AF_INET6, inet_pton
from typing import NamedTuple

from msgspec import Struct

LATER = 1 << 15  # a sequence number is newer if it is ahead by less, modulo twice as much


class Reported(Struct):
    """A binding as it is reported."""

    home_address: str
    care_of_address: str
    home_agent: str
    lifetime: int
    sequence: int


class Reports(Struct):
    """Several bindings."""

    bindings: list[Reported]


class Step(NamedTuple):
    """What changes of a binding: its packed addresses, `former` None if it is new."""

    home_address: bytes
    care_of_address: bytes
    former: bytes | None


class _Held(Struct, gc=False):
    care_of_address: bytes
    sequence: int
    ends: float


class CheckedBindings:
    """The bindings held, and what each switch has of them."""

    def __init__(self) -> None:
        self._held: dict[bytes, _Held] = {}
        self._ends: list[tuple[float, bytes]] = []
        self._installed: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)  # care-of addresses, by datapath id

    def take(self, reported: Reported, now: float) -> Step | None:
        """Hold a binding, and return what is to be sent, None for nothing. Raises ValueError if it can't be taken."""
        home_address, care_of_address, home_agent = (
            inet_pton(AF_INET6, text) for text in (reported.home_address, reported.care_of_address, reported.home_agent)
        )
        if home_address[:8] != home_agent[:8] or home_address == home_agent:
            raise ValueError(f"{reported.home_address} lies outside the home prefix")
        if care_of_address[0] & 0xE0 != 0x20 or care_of_address in (home_agent, home_address):
            raise ValueError(f"expected global unicast, got {reported.care_of_address}")
        if care_of_address in self._held:
            raise ValueError(f"{reported.care_of_address} is a home address")
        held = self._held.get(home_address)
        if held is not None and (reported.sequence - held.sequence) % (2 * LATER) >= LATER:
            raise ValueError(f"sequence {reported.sequence} is older than {held.sequence}")
        ends = now + reported.lifetime
        self._held[home_address] = _Held(care_of_address, reported.sequence, ends)
        if held is None or ends < held.ends:  # a later end is planned when the earlier one has come
            heapq.heappush(self._ends, (ends, home_address))
        if held is None:
            return Step(home_address, care_of_address, None)
        if held.care_of_address == care_of_address:
            return None
        return Step(home_address, care_of_address, held.care_of_address)

    def confirm(self, dpid: int, steps: Iterable[Step]) -> None:
        """Record that a switch has carried out steps."""
        installed = self._installed[dpid]
        for step in steps:
            installed[step.home_address] = step.care_of_address
