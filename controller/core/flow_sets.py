# SPDX-License-Identifier: Apache-2.0
"""Build the flows that go together: those of a home agent, and those of a binding."""

from functools import lru_cache
from typing import NamedTuple

from controller.core import pipeline
from controller.core.backends import Backend, FlowBackend
from controller.core.bindings import Binding
from controller.core.flows import Flow, FlowKey, Hole, Pattern, Shape, table_of
from controller.core.home_agents import HomeAgent
from hoaflow.addresses import Prefix

# Of the packet marks of home agents: what they begin with, and how many there are, a prime below 2 ** 22.
MARKED, MARKS = 0x68000000, 4194301
# Of how many bindings flows are remembered: of the handovers that routers are just following. With more, what has to
# be kept for a snapshot's costs more than it saves.
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
        guards.append(pipeline.link_local_flow(backend.receive, mark_of(home_agent), backend.retunnel(home_agent)))
        guards += (pipeline.own_tunnel_guard(home_agent, payload) for payload in _payloads(home_prefixes))
        for prefix in home_prefixes:
            guards += pipeline.retunnel_flows(prefix, backend.retunnel(home_agent))
        if any(prefix.is_ipv4 for prefix in home_prefixes):
            guards += pipeline.length_guards()
    return tuple(guards)


class BindingFlows(NamedTuple):
    """The flows that carry a binding's packets; ``verify`` is None where the router's kernel verifies."""

    downlink: Flow
    uplink: Flow
    verify: Flow | None

    def own(self) -> tuple[Flow, ...]:
        """Return the flows that no other binding can share: all but the uplink flow."""
        return (self.downlink,) if self.verify is None else (self.downlink, self.verify)

    def all(self) -> tuple[Flow, ...]:
        """Return all of the flows."""
        return (self.downlink, self.uplink) if self.verify is None else (self.downlink, self.uplink, self.verify)


class _BindingShapes(NamedTuple):
    """What the flows of bindings that differ only in addresses have in common, for one backend."""

    backend: Backend
    downlink: Shape
    uplink: Flow
    verify: Flow | None

    def flows(self, binding: Binding) -> BindingFlows:
        keys, verify = keys_of(binding), self.verify
        return BindingFlows(
            Flow(self.downlink, keys.downlink, self.backend.tunnel_ends(binding)),
            Flow(self.uplink.shape, keys.uplink, self.uplink.values),
            None if verify is None else Flow(verify.shape, keys.verify, verify.values),
        )


# Cached, as all routers ask one after the other; they then share what each keeps of a binding's flows.
@lru_cache(maxsize=LATEST)
def flows_of(binding: Binding, backend: Backend) -> BindingFlows:
    """Return the flows that carry a binding's packets."""
    return _binding_shapes(backend, len(binding.home_address.packed), binding.home_address.length).flows(binding)


@lru_cache(maxsize=4096)
def _binding_shapes(backend: Backend, octets: int, length: int) -> _BindingShapes:
    """Return what all bindings share whose home addresses have so many octets and this prefix length."""
    home_address, other = Prefix(bytes(octets), length), bytes(16)
    some = Binding(home_address, care_of_address=other, home_agent=other)
    verified = backend.verified()
    return _BindingShapes(
        backend,
        pipeline.downlink_flow(home_address, backend.downlink(some)).shape,
        pipeline.uplink_flow(*path_of(some), backend.uplink()),
        None if verified is None else pipeline.verify_flow(other, home_address, verified),
    )


class _Patterns(NamedTuple):
    downlink: Pattern
    uplink: Pattern
    verify: Pattern


class BindingKeys(NamedTuple):
    """The keys of all flows that a binding has with any backend."""

    downlink: FlowKey
    uplink: FlowKey
    verify: FlowKey


@lru_cache(maxsize=LATEST)
def keys_of(binding: Binding) -> BindingKeys:
    """Return the keys of a binding's flows, those that some backends do without included."""
    home_address, care_of_address = binding.home_address.packed, binding.care_of_address
    patterns = _patterns(len(home_address), binding.home_address.length)
    return BindingKeys(
        (patterns.downlink, home_address),
        (patterns.uplink, binding.home_agent, care_of_address),
        (patterns.verify, home_address, care_of_address),
    )


@lru_cache(maxsize=4096)
def _patterns(octets: int, length: int) -> _Patterns:
    home_address, other = Prefix(bytes(octets), length), bytes(16)
    return _Patterns(
        pipeline.downlink_flow(home_address, ()).shape.pattern,
        pipeline.uplink_flow(other, other, pipeline.payload_protocol(home_address), ()).shape.pattern,
        pipeline.verify_flow(other, home_address, ()).shape.pattern,
    )


def uplink_key(home_address: Prefix, care_of_address: bytes, home_agent: bytes) -> FlowKey:
    """Return the key of the uplink flow of a binding of these addresses."""
    patterns = _patterns(len(home_address.packed), home_address.length)
    return (patterns.uplink, home_agent, care_of_address)


def path_of(binding: Binding) -> Path:
    """Return the path that a binding's uplink flow serves."""
    return Path(binding.care_of_address, binding.home_agent, pipeline.payload_protocol(binding.home_address))


def uplink_source(key: FlowKey) -> bytes | None:
    """Return the care-of address of the uplink flow with a key, None if it is no uplink flow's."""
    if table_of(key) != pipeline.UPLINK or len(key) != 3:
        return None
    _, _home_agent, care_of_address = key
    return care_of_address


def verified_source(key: FlowKey) -> bytes | None:
    """Return the care-of address of the verifying flow with a key, None if it is no verifying flow's."""
    pattern, *addresses = key
    verifies = pattern.table == pipeline.VERIFY and bool(addresses) and pattern.fields[-1][0] == pipeline.TUNNEL_SOURCE
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
