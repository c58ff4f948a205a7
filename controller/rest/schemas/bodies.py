# SPDX-License-Identifier: Apache-2.0
"""Declare the request bodies: one struct each, with its translation into the core's values.

msgspec checks types and bounds. Ours are addresses, for which it has no type.
"""

from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from controller.core.bindings import Binding
from controller.core.demand import Install
from controller.core.home_agents import Status
from controller.core.owners import Owner
from controller.core.protocols import OTHER_TUNNELS, RULES, SIMULTANEOUS, Protocol, Tunnel
from controller.core.tunnels import EndpointName, FlowTunnelNames, FlowTunnels
from controller.rest.problems import wrong_field
from controller.rest.schemas.decoding import decode, parsed
from controller.rest.schemas.fields import (
    LARGEST_IDENTIFICATION,
    CareOfAddress,
    DetectedAgo,
    HomeAddress,
    HomePrefix,
    Identification,
    IpAddress,
    LastChange,
    Lifetime,
    MacAddress,
    OwnerName,
    OwnerRevision,
    PortName,
    ProtocolName,
    ReportedUpTo,
    ReverseTunnel,
    Revision,
    Sequence,
    Simultaneous,
    Timestamp,
    TunnelName,
    Withheld,
)
from hoaflow.addresses import (
    Prefix,
    host,
    parse_address,
    parse_prefix,
    why_not_global_unicast,
)

# A shorter lease could end between two renewals: switches count whole seconds.
SHORTEST_LEASE = 2

# Home prefixes of one home agent, and home agents that one router has endpoints for.
MOST_PREFIXES = MOST_ENDPOINTS = 256

# Bindings of one entry: the prefixes of one mobile node.
MOST_OF_AN_ENTRY = 100

# MAC addresses of a router: each costs gates of its own.
MOST_MACS = 64

Protocols = Annotated[
    list[ProtocolName],
    Meta(description="Those of its bindings, by default `mipv6`; others are refused.", min_length=1, max_length=8),
]

Group = Annotated[
    str,
    Meta(
        description="Home agents and LMAs of the same group may have home prefixes in common. Gates of these stand only"
        " while the leases of all of them hold that have bindings.",
        min_length=1,
        max_length=100,
    ),
]


class BindingBody(Struct, forbid_unknown_fields=True):
    """One binding as a bridge reports it; `lifetime` is in seconds left.

    Its key is `protocol` and `home_address`. Of `pmipv6`, the home address is a home network prefix, the care-of
    address the Proxy-CoA of its MAG, and the home agent its LMA. Of `mipv4`, the care-of address is the mobile node's
    own or its foreign agent's, and lifetime 65535 does not end.
    """

    home_address: HomeAddress
    care_of_address: CareOfAddress
    home_agent: IpAddress | None = None
    lifetime: Lifetime | None = None
    sequence: Sequence | None = None
    detected_ago: DetectedAgo | None = None
    withheld: Withheld | None = None
    protocol: ProtocolName = Protocol.MIPV6
    timestamp: Timestamp | None = None
    tunnel: TunnelName | None = None
    identification: Identification | None = None
    reverse_tunnel: ReverseTunnel | None = None
    simultaneous: Simultaneous | None = None

    def binding(self, now: float, home_agent: bytes | None = None) -> Binding:
        """Return the core's value, with `home_agent` if the body names none. Raises Problem."""
        if self.home_agent is not None:
            home_agent = parsed("home_agent", self.home_agent, _parse_home_agent)
        elif home_agent is None:
            raise wrong_field("home_agent", "expected the home agent's address, got none")
        rules = RULES[self.protocol]
        if self.timestamp is not None:
            _check_timestamp(self.protocol)
        sequence, reverse_tunnel, withheld = self.sequence, True, self.withheld
        if self.protocol is Protocol.MIPV4:
            sequence, reverse_tunnel = self._identification(), bool(self.reverse_tunnel)
            withheld = withheld or (SIMULTANEOUS if self.simultaneous else None)
        elif not (self.identification is self.reverse_tunnel is self.simultaneous is None):
            self._refuse_flags()
        lasts = self.lifetime is None or self.lifetime == rules.forever
        return Binding(
            home_address=parsed("home_address", self.home_address, parse_prefix),
            # Of any family: the core withdraws the binding that a refused one would replace.
            care_of_address=parsed("care_of_address", self.care_of_address, parse_address),
            home_agent=home_agent,
            lifetime=self.lifetime,
            expires_at=None if self.lifetime is None or lasts else now + self.lifetime,
            sequence=sequence,
            withheld=withheld if self.tunnel is None else self._other_tunnel(home_agent) or withheld,
            protocol=self.protocol,
            timestamp=self.timestamp,
            reverse_tunnel=reverse_tunnel,
        )

    def _identification(self) -> int | None:
        """Return what orders updates of `mipv4`. Raises Problem."""
        if self.sequence is not None:
            raise wrong_field("sequence", "expected none: mipv4 orders updates by `identification`")
        if self.identification is not None and self.identification > LARGEST_IDENTIFICATION:
            raise wrong_field("identification", f"expected a number of 64 bits, got {self.identification}")
        return self.identification

    def _refuse_flags(self) -> None:
        """Raise Problem for a member that only `mipv4` has."""
        for name in ("identification", "reverse_tunnel", "simultaneous"):
            if getattr(self, name) is not None:
                raise wrong_field(name, f"expected none: {self.protocol.value} has no such thing, only mipv4 has")

    def _other_tunnel(self, home_agent: bytes) -> str | None:
        """Return why the tunnel is left to its home agent, None if routers encapsulate so. Raises Problem."""
        if self.tunnel is Tunnel.IPV6 and len(home_agent) == 4:
            raise wrong_field("tunnel", "expected ipv4, as that is what the home agent's address is")
        if self.tunnel is None or (self.tunnel is Tunnel.IPV4 and len(home_agent) == 4):
            return None
        return OTHER_TUNNELS.get(self.tunnel)


class OwnerBody(Struct, forbid_unknown_fields=True):
    """Which of several pods a bridge follows; a call for another one than the newest is refused (409)."""

    name: OwnerName
    revision: OwnerRevision


class _FromBridge(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a bridge beside one of several pods adds to what it says."""

    owner: OwnerBody | None = None

    def followed(self) -> Owner | None:
        """Return the owner that the bridge follows, None if it names none: as the core's value."""
        return None if self.owner is None else Owner(self.owner.name, self.owner.revision)


class BindingsBody(_FromBridge, forbid_unknown_fields=True):
    """Several bindings, each decoded by itself, so that a wrong one does not stop the others.

    Unless they are `one_entry`, of which all are taken or none: the home network prefixes of one mobile node and
    interface (RFC 5213 section 5.1). There may be 100 of these.
    """

    bindings: list[Annotated[msgspec.Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/BindingBody"})]]
    last_change: ReportedUpTo | None = None
    one_entry: bool = False

    def home_agent(self) -> bytes:
        """Return the one home agent that all of the bindings name. Raises Problem."""
        named = {decode(raw, _HomeAgentOfBinding).home_agent for raw in self.bindings}
        if len(named) != 1:
            field = "owner" if self.last_change is None else "last_change"
            raise wrong_field(field, f"expected bindings of one home agent with it, got those of {len(named)}")
        return parsed("home_agent", named.pop() or "", parse_address)

    def entry(self, now: float) -> list[Binding]:
        """Return the bindings of one entry. Raises Problem."""
        if len(self.bindings) > MOST_OF_AN_ENTRY:
            raise wrong_field("bindings", f"expected {MOST_OF_AN_ENTRY} at most of one entry, got {len(self.bindings)}")
        found = [decode(raw, BindingBody).binding(now) for raw in self.bindings]
        if len({(each.protocol, each.home_agent, each.care_of_address) for each in found}) > 1:
            raise wrong_field("one_entry", "expected bindings of one protocol, home agent and care-of address with it")
        if len({each.home_address for each in found}) != len(found):
            raise wrong_field("one_entry", "expected each home address or prefix once")
        return found


class BulkUpdateBody(_FromBridge, forbid_unknown_fields=True):
    """One message for all bindings of a home agent at one care-of address: those of a MAG.

    `lifetime` 0 ends them (RFC 5846, or the MAG has restarted, RFC 5847), another renews them (RFC 6602), and
    `new_care_of_address` moves them. A binding with a newer timestamp stays as it is.
    """

    care_of_address: IpAddress
    new_care_of_address: IpAddress | None = None
    lifetime: Lifetime | None = None
    protocol: ProtocolName = Protocol.PMIPV6
    timestamp: Timestamp | None = None
    last_change: ReportedUpTo | None = None

    def here(self) -> bytes:
        """Return the care-of address that they have. Raises Problem."""
        return parsed("care_of_address", self.care_of_address, parse_address)

    def changes(self, now: float) -> dict[str, Any]:
        """Return what changes of each of them, by the fields of `Binding`. Raises Problem."""
        if self.timestamp is not None:
            _check_timestamp(self.protocol)
        changes: dict[str, Any] = {}
        if self.lifetime is not None:
            ends = None if self.lifetime == RULES[self.protocol].forever else now + self.lifetime
            changes |= {"lifetime": self.lifetime, "expires_at": ends}
        if self.new_care_of_address is not None:
            if self.lifetime == 0:
                raise wrong_field("new_care_of_address", "expected none with lifetime 0, which ends them")
            new = parsed("new_care_of_address", self.new_care_of_address, parse_address)
            changes["care_of_address"] = new
        if not changes:
            raise wrong_field("lifetime", "expected it, or new_care_of_address, got neither")
        if self.timestamp is not None:
            changes["timestamp"] = self.timestamp
        return changes


class _HomeAgentOfBinding(Struct):
    """What tells whose a binding is."""

    home_agent: IpAddress | None = None


class HomeAgentBody(_FromBridge, forbid_unknown_fields=True):
    """A bridge's announcement of its home agent (an LMA: `protocols` has `pmipv6`); `lease` is in seconds."""

    home_prefixes: Annotated[list[HomePrefix], Meta(min_length=1, max_length=MOST_PREFIXES)]
    lease: Annotated[int, Meta(description="Seconds; `longest_lease` at the most.", ge=SHORTEST_LEASE)] = 10
    status: Status = Status.UP
    last_change: LastChange | None = None
    protocols: Protocols = msgspec.field(default_factory=lambda: [Protocol.MIPV6])
    group: Group | None = None

    def prefixes(self) -> tuple[Prefix, ...]:
        """Return the home prefixes. Raises Problem."""
        return tuple(parsed(f"home_prefixes[{i}]", text, parse_prefix) for i, text in enumerate(self.home_prefixes))


class EndpointBody(Struct, forbid_unknown_fields=True):
    """One tunnel endpoint of a router; `problem` says why it carries no traffic, null if it does."""

    home_agent: IpAddress
    port: PortName
    mac: MacAddress
    problem: Annotated[str, Meta(max_length=1000)] | None = None


class FlowTunnelBody(Struct, forbid_unknown_fields=True):
    """A tunnel device of a router's `flow` backend: its OVS ports, the addresses that its kernel listens to, its MTU.

    The default MTU is that of links of 1500 octets, less an IPv6 header; the highest is the most that Open vSwitch's
    check_pkt_larger can compare with. `problem` says why it carries no traffic, `ipv4_problem` and `ipv6_problem` why
    it carries none of home addresses of that family; null if it does.
    """

    transmit_port: PortName
    receive_port: PortName
    decapsulation_address: IpAddress
    decapsulation_mac: MacAddress
    router_mac: MacAddress
    mtu: Annotated[int, Meta(ge=1280, le=65521)] = 1460
    ipv4_problem: Annotated[str, Meta(max_length=1000)] | None = None
    problem: Annotated[str, Meta(max_length=1000)] | None = None
    ipv6_problem: Annotated[str, Meta(max_length=1000)] | None = None

    def names(self, field: str, octets: int) -> FlowTunnelNames:
        """Return the core's value, for outer addresses of so many octets. Raises Problem, with ``field`` as path."""
        address = _unicast_address(f"{field}.decapsulation_address", self.decapsulation_address)
        if len(address) != octets:
            family = "IPv4" if octets == 4 else "IPv6"
            raise wrong_field(f"{field}.decapsulation_address", f"expected {family}, as it is outside in these tunnels")
        return FlowTunnelNames(
            self.transmit_port,
            self.receive_port,
            address,
            _unicast_mac(f"{field}.decapsulation_mac", self.decapsulation_mac),
            self.router_mac.lower(),
            self.mtu,
            self.ipv4_problem,
            self.problem,
            self.ipv6_problem,
        )


class FailureBody(Struct, forbid_unknown_fields=True):
    """One tunnel that a tunnel agent could not apply."""

    home_address: HomeAddress
    reason: Annotated[str, Meta(max_length=1000)]


class AcknowledgementBody(Struct, forbid_unknown_fields=True):
    """The backend of a router, and the tunnels of its kernel.

    `endpoints` are those of the `route` backend. `flow` and `flow_ipv4` are the devices of the `flow` backend, for home
    agents with IPv6 and with IPv4 addresses.

    `router_macs`: the MAC addresses of its kernel's interfaces. Only frames to or from these are taken off the home
    agent's path; without the member, all that the bridge sees.

    `install`: which bindings' flows the router is to have, null for what the controller's setting says.
    """

    revision: Revision
    router_macs: Annotated[list[MacAddress], Meta(max_length=MOST_MACS)] | None = None
    endpoints: Annotated[list[EndpointBody], Meta(max_length=MOST_ENDPOINTS)] = []
    flow: FlowTunnelBody | None = None
    flow_ipv4: FlowTunnelBody | None = None
    install: Literal["everything", "on-demand"] | None = None
    failed: list[FailureBody] = []

    def core_macs(self) -> tuple[str, ...] | None:
        """Return the MAC addresses without repetition. Raises Problem."""
        if self.router_macs is None:
            return None
        found = (_unicast_mac(f"router_macs[{index}]", mac) for index, mac in enumerate(self.router_macs))
        return tuple(dict.fromkeys(found))

    def core_endpoints(self) -> dict[bytes, EndpointName]:
        """Return the endpoints by home agent. Raises Problem, also if the `flow` backend is announced, too."""
        if self.endpoints and (self.flow is not None or self.flow_ipv4 is not None):
            raise wrong_field("endpoints", "expected none with the flow backend: a router has one backend")
        endpoints: dict[bytes, EndpointName] = {}
        for index, endpoint in enumerate(self.endpoints):
            address = parsed(f"endpoints[{index}].home_agent", endpoint.home_agent, parse_address)
            if address in endpoints:
                raise wrong_field(f"endpoints[{index}].home_agent", "expected one endpoint for each home agent")
            endpoints[address] = EndpointName(endpoint.port, endpoint.mac.lower(), endpoint.problem)
        return endpoints

    def core_install(self) -> Install | None:
        """Return which bindings' flows the router is to have, None for what the controller's setting says."""
        return None if self.install is None else Install(self.install)

    def core_flow(self) -> FlowTunnels:
        """Return the `flow` backend. Raises Problem."""
        devices = ((16, "flow", self.flow), (4, "flow_ipv4", self.flow_ipv4))
        return {octets: device.names(name, octets) for octets, name, device in devices if device is not None}

    def failure(self, index: int) -> tuple[Prefix, str]:
        """Return the home address and the reason of one failure. Raises Problem."""
        failed = self.failed[index]
        return parsed(f"failed[{index}].home_address", failed.home_address, parse_prefix), failed.reason


def _check_timestamp(protocol: Protocol) -> None:
    """Raise Problem if updates of a protocol have no timestamp."""
    if (ordered_by := RULES[protocol].ordered_by) != "timestamp":
        raise wrong_field("timestamp", f"expected none: {protocol.value} orders updates by `{ordered_by}`")


# Most bindings name the same few: the object is shared, and parsed once.
_parse_home_agent = lru_cache(maxsize=256)(parse_address)


def _unicast_address(field: str, text: str) -> bytes:
    address = parsed(field, text, parse_address)
    reason = why_not_global_unicast(host(address))
    if reason is not None:
        raise wrong_field(field, f"expected an address that mobile nodes can reach: {reason}")
    return address


def _unicast_mac(field: str, text: str) -> str:
    octets = bytes.fromhex(text.replace(":", ""))
    if octets[0] & 1 or not any(octets):
        raise wrong_field(field, f"expected a unicast MAC address, got {text}")
    return text.lower()
