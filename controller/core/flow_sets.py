# SPDX-License-Identifier: Apache-2.0
"""Build the flows that go together: those of a home agent, and those of a binding."""

from functools import lru_cache
from typing import NamedTuple

from controller.core import pipeline
from controller.core.backends import Backend, FlowBackend
from controller.core.bindings import Binding
from controller.core.flow_units import FlowUnit, UnitShapes
from controller.core.flows import Flow, FlowKey, Pattern
from controller.core.home_agents import HomeAgent
from hoaflow.addresses import Prefix

# Of the packet marks of home agents: what they begin with, and how many there are, a prime below 2 ** 22.
MARKED, MARKS = 0x68000000, 4194301
# The meters of on-demand routers: the one for all tunnel packets, and how many there are for home prefixes, a prime.
# Open vSwitch's userspace datapath has 2 ** 18 meters, and others may use the first.
FIRST_METER, METERS = 0x6800, 2039
# Of how many bindings the keys of flows are remembered: of the handovers that routers are just following. With more,
# what has to be kept for a snapshot's costs more than it saves.
LATEST = 16
# In lower case, with colons.
MacAddresses = tuple[str, ...]


class Path(NamedTuple):
    """The path that an uplink flow serves: care-of address, home agent, and the protocol in the tunnel."""

    care_of_address: bytes
    home_agent: bytes
    payload: int


def gates_of(home_agent: HomeAgent, macs: MacAddresses | None, backend: Backend | None = None) -> tuple[Flow, ...]:
    """Return the gates of one home agent: for each home prefix, and per family of these for its own address.

    ``macs``: those of the router's kernel, None if its agent does not say. Without ``backend`` only the gates' keys are
    valid.
    """
    limit = backend.mtu if isinstance(backend, FlowBackend) else None
    return _gates(home_agent.address, home_agent.home_prefixes, macs, limit)


def guards_of(home_agent: HomeAgent, backend: Backend | None) -> tuple[Flow, ...]:
    """Return the guards that have to stand before a gate of the home agent may open."""
    return _guards(home_agent.address, home_agent.home_prefixes, backend if isinstance(backend, FlowBackend) else None)


# Cached, as they are asked for all the time: a binding's state on each router depends on its gates and guards.
@lru_cache(maxsize=256)
def _gates(
    home_agent: bytes, home_prefixes: tuple[Prefix, ...], macs: MacAddresses | None, limit: int | None
) -> tuple[Flow, ...]:
    payloads = _payloads(home_prefixes)
    mark = None if limit is None else mark_of(home_agent)
    # Packets from the router's kernel are taken, too: a mobile node's packets for another leave their first tunnel
    # there. Not its tunnel packets: they have been here, and go to the home agent for that.
    to_router: list[pipeline.Frame] = [pipeline.ANY_FRAME] if macs is None else [(("eth_dst", mac),) for mac in macs]
    from_router: list[pipeline.Frame] = [(("eth_src", mac),) for mac in macs or ()]
    return (
        *(pipeline.uplink_gate(home_agent, payload, frame, mark) for frame in to_router for payload in payloads),
        *(
            pipeline.downlink_gate(prefix, frame, limit if prefix.is_ipv4 else None)
            for frame in (*to_router, *from_router)
            for prefix in home_prefixes
        ),
    )


def mark_of(home_agent: bytes) -> int:
    """Return the packet mark that tells a home agent's tunnel packets.

    The bits 14 and 15 are left free: Kubernetes drops packets by one of them.
    """
    number = int.from_bytes(home_agent, "big") % MARKS
    return MARKED | number >> 14 << 16 | number & 0x3FFF


def _payloads(home_prefixes: tuple[Prefix, ...]) -> list[int]:
    return sorted({pipeline.payload_protocol(prefix) for prefix in home_prefixes}, reverse=True)


@lru_cache(maxsize=256)
def _guards(home_agent: bytes, home_prefixes: tuple[Prefix, ...], backend: FlowBackend | None) -> tuple[Flow, ...]:
    guards = [flow for prefix in home_prefixes for flow in pipeline.guard_flows(prefix)]
    if backend is not None:
        guards.append(pipeline.receive_flow(backend.receive))
        guards.append(pipeline.unmark_flow())
        mark, retunnel = mark_of(home_agent), backend.retunnel(home_agent)
        guards.append(pipeline.link_local_flow(backend.receive, mark, retunnel))
        guards += (pipeline.own_tunnel_guard(home_agent, payload) for payload in _payloads(home_prefixes))
        for prefix in home_prefixes:
            guards += pipeline.retunnel_flows(backend.receive, mark, prefix, retunnel)
        if any(prefix.is_ipv4 for prefix in home_prefixes):
            guards += pipeline.length_guards()
    return tuple(guards)


def meter_of(home_prefix: Prefix) -> int:
    """Return the number of the meter for what is told of packets for a home prefix, the same on all routers."""
    return FIRST_METER + 1 + int.from_bytes(home_prefix.packed, "big") % METERS


def meters_of(home_agent: HomeAgent) -> tuple[int, ...]:
    """Return the numbers of the meters in a home agent's ``packet_ins_of``, in their order."""
    return (*map(meter_of, home_agent.home_prefixes), FIRST_METER)


def packet_ins_of(home_agent: HomeAgent, backend: Backend | None) -> tuple[Flow, ...]:
    """Return the flows by which an on-demand router tells of a home agent's packets that no binding's flow takes."""
    return _packet_ins(home_agent.address, home_agent.home_prefixes, isinstance(backend, FlowBackend))


@lru_cache(maxsize=256)
def _packet_ins(home_agent: bytes, home_prefixes: tuple[Prefix, ...], marked: bool) -> tuple[Flow, ...]:
    downlink = (pipeline.downlink_packet_in(prefix, meter_of(prefix)) for prefix in home_prefixes)
    return (*downlink, pipeline.uplink_packet_in(home_agent, FIRST_METER, marked))


def suppression_of(home_address: Prefix, path: Path | None, marked: bool) -> Flow:
    """Return the flow by which nothing is told of packets for a home address, or with ``path`` of those on it."""
    if path is None:
        return pipeline.downlink_suppression(home_address)
    return pipeline.uplink_suppression(*path, marked)


def flows_of(binding: Binding, backend: Backend, sole: bool = True) -> FlowUnit:
    """Return the flows that carry a binding's packets; ``sole``: its uplink flow is no other's."""
    home_address, care_of_address, both_ways = binding.home_address, binding.care_of_address, binding.reverse_tunnel
    shapes = _unit_shapes(backend, len(home_address.packed), home_address.length, len(care_of_address), both_ways)
    return FlowUnit(shapes, home_address, care_of_address, binding.home_agent, sole and both_ways)


@lru_cache(maxsize=4096)
def _unit_shapes(backend: Backend, octets: int, length: int, outer_octets: int, both_ways: bool) -> UnitShapes:
    """Return what all bindings share whose addresses have so many octets, and home addresses this prefix length."""
    home_address, other = Prefix(bytes(octets), length), bytes(outer_octets)
    some = Binding(home_address, care_of_address=other, home_agent=other)
    downlink = pipeline.downlink_flow(home_address, backend.downlink(some))
    if not both_ways:
        return UnitShapes(downlink.shape, bool(downlink.values), uplink=None, uplink_values=(), verify=None)
    uplink = pipeline.uplink_flow(*path_of(some), backend.uplink())
    verified = backend.verified()
    return UnitShapes(
        downlink.shape,
        bool(downlink.values),
        uplink.shape,
        uplink.values,
        None if verified is None else pipeline.verify_flow(other, home_address, verified).shape,
    )


class _Patterns(NamedTuple):
    downlink: Pattern
    uplink: Pattern
    verify: Pattern


class BindingKeys(NamedTuple):
    """The keys of all flows that a binding has with any backend: without reverse tunnelling, the downlink flow's."""

    all: tuple[FlowKey, ...]
    downlink: FlowKey
    uplink: FlowKey | None
    verify: FlowKey | None


@lru_cache(maxsize=LATEST)
def keys_of(binding: Binding) -> BindingKeys:
    """Return the keys of a binding's flows, those that some backends do without included."""
    home_address, care_of_address = binding.home_address.packed, binding.care_of_address
    patterns = _patterns(len(home_address), binding.home_address.length, len(care_of_address))
    downlink: FlowKey = (patterns.downlink, home_address)
    if not binding.reverse_tunnel:
        return BindingKeys((downlink,), downlink, uplink=None, verify=None)
    uplink: FlowKey = (patterns.uplink, binding.home_agent, care_of_address)
    verify: FlowKey = (patterns.verify, home_address, care_of_address)
    return BindingKeys((downlink, uplink, verify), downlink, uplink, verify)


@lru_cache(maxsize=4096)
def _patterns(octets: int, length: int, outer_octets: int) -> _Patterns:
    home_address, other = Prefix(bytes(octets), length), bytes(outer_octets)
    return _Patterns(
        pipeline.downlink_flow(home_address, ()).shape.pattern,
        pipeline.uplink_flow(other, other, pipeline.payload_protocol(home_address), ()).shape.pattern,
        pipeline.verify_flow(other, home_address, ()).shape.pattern,
    )


def uplink_key(home_address: Prefix, care_of_address: bytes, home_agent: bytes) -> FlowKey:
    """Return the key of the uplink flow of a binding of these addresses."""
    patterns = _patterns(len(home_address.packed), home_address.length, len(care_of_address))
    return (patterns.uplink, home_agent, care_of_address)


def path_of(binding: Binding) -> Path:
    """Return the path that a binding's uplink flow serves."""
    return Path(binding.care_of_address, binding.home_agent, pipeline.payload_protocol(binding.home_address))
