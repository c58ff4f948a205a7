# SPDX-License-Identifier: Apache-2.0
"""Read from a flow's key whose packets the flow takes, and which flows lead to which."""

from functools import lru_cache
from typing import NamedTuple

from controller.core import pipeline
from controller.core.flows import FlowKey, Hole, Pattern
from hoaflow.addresses import Prefix

_TUNNEL_SOURCES = frozenset(pipeline.TUNNEL_SOURCE.values())


def uplink_source(key: FlowKey) -> bytes | None:
    """Return the care-of address of the uplink flow with a key, None if it is no uplink flow's."""
    return key[2] if len(key) == 3 and key[0].table == pipeline.UPLINK else None


def verified_source(key: FlowKey) -> bytes | None:
    """Return the care-of address of the verifying flow with a key, None if it is no verifying flow's."""
    pattern, *addresses = key
    verifies = pattern.table == pipeline.VERIFY and bool(addresses) and pattern.fields[-1][0] in _TUNNEL_SOURCES
    return addresses[-1] if verifies else None


def keeps_safe(guard: FlowKey, gate: FlowKey) -> bool:
    """Tell whether a guard has to stand while a gate does: they overlap, or the guard is there for all."""
    served, taken = home_end(guard), home_end(gate)
    return served is None or taken is None or served.overlaps(taken)


def leads_to(gate: FlowKey, flow: FlowKey) -> bool:
    """Tell whether a gate may lead packets to a flow of a binding."""
    served, taken = home_end(flow), home_end(gate)
    return served is not None and taken is not None and served.overlaps(taken)


def home_end(key: FlowKey) -> Prefix | None:
    """Return the home end of the packets that the flow with a key matches, None if it is there for all.

    It is a home address or prefix; of an uplink flow, the home agent's address.
    """
    place = _home_place(key[0])
    return None if place is None else Prefix(key[place.at], place.length)  # type: ignore[arg-type]


class _Place(NamedTuple):
    """Where the home end stands in a key, and how many bits of it count."""

    at: int
    length: int


@lru_cache(maxsize=4096)
def _home_place(pattern: Pattern) -> _Place | None:
    marked = any(name == pipeline.MARK for name, _ in pattern.fields)
    ends = ("ipv6_src", "ipv4_src") if marked or pattern.table == pipeline.VERIFY else ("ipv6_dst", "ipv4_dst")
    holes = [(name, value) for name, value in pattern.fields if isinstance(value, Hole)]
    places = (_Place(at, hole.length) for at, (name, hole) in enumerate(holes, start=1) if name in ends)
    return next(places, None)
