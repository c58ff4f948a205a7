# SPDX-License-Identifier: Apache-2.0
"""Declare what a tunnel endpoint consists of, for setup, teardown, status, doctor and the agent's comparison."""

from dataclasses import dataclass

from hoaflow.linux import AF_INET, AF_INET6, MAIN_TABLE
from hoaflow.router.database_objects import BridgePort, DatabaseRecord
from hoaflow.router.endpoint import (
    ENC_IN,
    ENC_IN_SIDE,
    ENC_OUT,
    ENC_OUT_SIDE,
    ENDS_MTU,
    ERRORS_RULE,
    ERRORS_TABLE,
    INGRESS_RULE,
    INGRESS_TABLE,
    IPV4_PAYLOAD_RULE,
    IPV4_PAYLOAD_TABLE,
    IPV6_PAYLOAD_RULE,
    IPV6_PAYLOAD_TABLE,
    KEPT_BACK_MARK,
    KEPT_BACK_RULE,
    KERNEL_SIDE,
    KERNEL_SIDE_IPV4,
    LEFT_RULE,
    MINIMUM_MTU,
    NESTED_MARK,
    NESTED_RULE,
    PLAIN_IPV4_RULE,
    PLAIN_RULE,
    PLAIN_TABLE,
    TIN,
    TOUT,
    TOUT_SIDE,
    Endpoint,
)
from hoaflow.router.errors import RouterError
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.router.packet_filter import endpoint_tables, kernel_tables
from hoaflow.tunnel import links, outer_header
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.namespace import Namespace
from hoaflow.tunnel.objects import (
    FixedNeighbour,
    Free,
    HostSetting,
    IpAddress,
    Mac,
    Mtu,
    NamedNamespace,
    NftTable,
    NoOffloads,
    OnlyAddresses,
    OnlyTables,
    Setting,
    Up,
    Veth,
)
from hoaflow.tunnel.routing import (
    KERNELS_RULES,
    Decapsulation,
    LocalRoute,
    OnlyRoutes,
    OnlyRules,
    Route,
    Rule,
    TunnelSource,
)
from hoaflow.tunnel.spoofing_filter import IPV4, IPV4_MARK, IPV6, IPV6_MARK, SpoofingFilter
from hoaflow.tunnel.tunnel_filter import TunnelProgram

FAMILIES = {AF_INET6: "v6", AF_INET: "v4"}
ANY = ("::/0", "0.0.0.0/0")
IPPROTO_ICMP, IPPROTO_ICMPV6 = 1, 58
NO_FORWARDING = "the router's kernel does not forward {}, so what leaves the tunnel is lost"


@dataclass(frozen=True)
class IcmpSource(IpAddress):
    """An address of the router that the endpoint's ICMP errors come from."""

    def __str__(self) -> str:
        return f"ICMP{FAMILIES[links.family_of(self.address)]} errors from {self.address}"


@dataclass(frozen=True)
class SomeIcmpSource:
    """A missing address for ICMP errors of the outer headers' family: declared only where there is none, so it differs.

    `icmp`, `ip`: the family's words.
    """

    icmp: str
    ip: str

    def __str__(self) -> str:
        return f"an address for {self.icmp} errors"

    def difference(self, actual: ActualState) -> str | None:
        """Name the missing address, and say how to give one."""
        too_big = "Packet Too Big" if self.ip == "IPv6" else "Fragmentation Needed"
        return (
            f"the router's kernel has no global {self.ip} address to send {self.icmp} errors from "
            f"({too_big}, Time Exceeded): name one of the router with --icmp-source"
        )

    def make(self) -> None:
        """Raise RouterError, as only the operator can choose an address."""
        raise RouterError(str(self.difference(ActualState())))

    def remove(self) -> None:
        """Do nothing: there is nothing to remove."""


def declaration(endpoint: Endpoint, userspace: bool, ovsdb: Ovsdb) -> list[Declared]:
    """Return the objects of an endpoint in the order in which they are made.

    The record comes first, so that teardown finds what is half made; the OVS port last, so that what it leads to is
    ready. `userspace`: the bridge has a userspace datapath. Raises TunnelError when the router's kernel cannot be read.
    """
    outer = "ipv4" if endpoint.is_ipv4 else "ipv6"
    return [
        HostSetting(endpoint.kernel_namespace, outer, "all.forwarding", "1", NO_FORWARDING.format(f"IP{outer[2:]}")),
        DatabaseRecord(
            ovsdb,
            endpoint.bridge,
            f"endpoint for home agent {endpoint.home_agent}",
            endpoint.port,
            endpoint.record.facts,
        ),
        *_namespace(endpoint),
        *_links(endpoint),
        *_icmp_sources(endpoint),
        *_routing(endpoint),
        *_filters(endpoint),
        # The program cannot keep all that the kernel notes of large packets that segmentation is left to.
        *((NoOffloads(where, name) for where, name in _ends(endpoint)[:2]) if userspace or endpoint.is_ipv4 else ()),
        BridgePort(ovsdb, endpoint.bridge, endpoint.port, endpoint.record.facts),
    ]


def _forwards(endpoint: Endpoint, protocol: str) -> str:
    """Return "1" if the endpoint is to forward IPv4 or IPv6, and "0" if not. Raises TunnelError.

    It forwards the family of the outer headers, and the other one if the router's kernel does.
    """
    if protocol == ("ipv4" if endpoint.is_ipv4 else "ipv6"):
        return "1"
    return str(int(links.sysctl(endpoint.kernel_namespace, "all.forwarding", protocol) == "1"))


def _namespace(endpoint: Endpoint) -> list[Declared]:
    name = endpoint.namespace
    settings = [
        ("ipv6", "all.disable_ipv6", "0"),
        ("ipv6", "all.forwarding", _forwards(endpoint, "ipv6")),
        ("ipv6", "default.addr_gen_mode", "1"),
        ("ipv4", "all.forwarding", _forwards(endpoint, "ipv4")),
        # Sources are checked by OpenFlow and the spoofing filter. A new namespace inherits the host's settings, and of
        # `all` and the interface's own the stricter one counts.
        ("ipv4", "all.rp_filter", "0"),
        ("ipv4", "default.rp_filter", "0"),
        # Packets that the router itself sends have the address that errors come from here.
        ("ipv4", "all.accept_local", "1"),
    ]
    return [NamedNamespace(name), *(Setting(name, *setting) for setting in settings), Up(name, "lo")]


def _ends(endpoint: Endpoint) -> list[tuple[Namespace, str]]:
    """Return namespace and name of all ends of the veth pairs, the pair at the OVS port first."""
    inside = endpoint.namespace
    ends: list[tuple[Namespace, str]] = [(None, endpoint.port), (inside, TIN)]
    ends += [(endpoint.kernel_namespace, endpoint.kernel_port)]
    return ends + [(inside, name) for name in (TOUT, ENC_IN, ENC_OUT)]


def _links(endpoint: Endpoint) -> list[Declared]:
    inside, kernel = endpoint.namespace, endpoint.kernel_namespace
    mtu, mtu_inside = ENDS_MTU, max(endpoint.tunnel_mtu, MINIMUM_MTU)
    macs = {name: endpoint.mac if name == TIN else endpoint.mac_of(name) for _, name in _ends(endpoint)}
    pairs_of_ends: list[tuple[Namespace, str, str, int]] = [
        (None, endpoint.port, TIN, mtu),
        (kernel, endpoint.kernel_port, TOUT, mtu),
        (inside, ENC_IN, ENC_OUT, mtu_inside),
    ]
    found: list[Declared] = [
        Veth(where, name, macs[name], inside, peer, macs[peer], size) for where, name, peer, size in pairs_of_ends
    ]
    for where, name in _ends(endpoint):
        size = mtu_inside if name in (ENC_IN, ENC_OUT) else mtu
        found += [Mac(where, name, macs[name]), Mtu(where, name, size)]
        if name != endpoint.port:
            found.append(Free(where, name))  # the port is Open vSwitch's
    forwarding = _forwards(endpoint, "ipv4")
    # The host must not use Open vSwitch's end for IPv6 itself; the other ends have fixed addresses.
    settings: list[tuple[Namespace, str, str, str]] = [
        (None, "ipv6", f"{endpoint.port}.disable_ipv6", "1"),
        (kernel, "ipv6", f"{endpoint.kernel_port}.disable_ipv6", "0"),
        (kernel, "ipv6", f"{endpoint.kernel_port}.addr_gen_mode", "1"),
        # Home addresses are routed elsewhere, so the strict check would drop what leaves the tunnel. Of `all` and the
        # interface's own the greater value counts: loose, not off. Errors come from an address of the router's own.
        (kernel, "ipv4", f"{endpoint.kernel_port}.rp_filter", "2"),
        (kernel, "ipv4", f"{endpoint.kernel_port}.accept_local", "1"),
        (kernel, "ipv4", f"{endpoint.kernel_port}.forwarding", forwarding),
    ]
    for name in (TIN, TOUT, ENC_IN, ENC_OUT):
        settings += [
            (inside, "ipv6", f"{name}.disable_ipv6", "0"),
            (inside, "ipv4", f"{name}.rp_filter", "0"),
            (inside, "ipv4", f"{name}.forwarding", forwarding),
        ]
    found += [Setting(*setting) for setting in settings]
    found += [Up(where, name) for where, name in _ends(endpoint)]
    found += [
        IpAddress(kernel, endpoint.kernel_port, KERNEL_SIDE, 64),
        IpAddress(inside, TOUT, TOUT_SIDE, 64),
        IpAddress(inside, ENC_IN, ENC_IN_SIDE, 64),
        IpAddress(inside, ENC_OUT, ENC_OUT_SIDE, 64),
        # The loose check accepts nothing on an interface without an IPv4 address. Of link scope: never a source.
        IpAddress(kernel, endpoint.kernel_port, KERNEL_SIDE_IPV4, 32, no_source=True),
        FixedNeighbour(inside, ENC_IN, ENC_OUT_SIDE, macs[ENC_OUT]),
        FixedNeighbour(inside, TOUT, KERNEL_SIDE, macs[endpoint.kernel_port]),
    ]
    if endpoint.is_ipv4:
        # Where copied ICMP errors are sent (`hoaflow.router.packet_filter`).
        found.append(FixedNeighbour(kernel, endpoint.kernel_port, endpoint.home_agent, macs[TOUT]))
    return found


def _icmp_sources(endpoint: Endpoint) -> list[Declared]:
    inside, sources = endpoint.namespace, endpoint.icmp_sources
    found: list[Declared] = [IcmpSource(inside, "lo", address, 128 if ":" in address else 32) for address in sources]
    if not any((":" in address) != endpoint.is_ipv4 for address in sources):
        found.append(SomeIcmpSource("ICMP", "IPv4") if endpoint.is_ipv4 else SomeIcmpSource("ICMPv6", "IPv6"))
    return [*found, OnlyAddresses(inside, "lo", sources)]


def _routing(endpoint: Endpoint) -> list[Declared]:
    inside = endpoint.namespace
    routes = [
        *(Route(inside, to, KERNEL_SIDE, TOUT, table) for table in (MAIN_TABLE, PLAIN_TABLE) for to in ANY),
        *(Route(inside, to, ENC_OUT_SIDE, ENC_IN, INGRESS_TABLE) for to in ANY),
    ]
    rules = [
        *(Rule(inside, kernels, table, family) for kernels, table in KERNELS_RULES.items() for family in FAMILIES),
        *(Rule(inside, INGRESS_RULE, INGRESS_TABLE, family, iifname=TIN) for family in FAMILIES),
        # Packets too long for the tunnel go to the home agent.
        *(Rule(inside, KEPT_BACK_RULE, PLAIN_TABLE, f, iifname=ENC_OUT, fwmark=KEPT_BACK_MARK) for f in FAMILIES),
        *(_program_rules(endpoint) if endpoint.is_ipv4 else _seg6_rules(endpoint)),
    ]
    tables = (MAIN_TABLE, INGRESS_TABLE, PLAIN_TABLE, ERRORS_TABLE, IPV6_PAYLOAD_TABLE, IPV4_PAYLOAD_TABLE)
    return [
        *routes,
        *rules,
        LocalRoute(inside, endpoint.home_agent, ERRORS_TABLE),
        *([TunnelProgram(inside, TOUT, endpoint.home_agent)] if endpoint.is_ipv4 else _seg6(endpoint)),
        *(OnlyRoutes(inside, family, table) for family in FAMILIES for table in tables),
        *(
            OnlyRules(inside, family, frozenset(rule.preference for rule in rules if rule.family == family))
            for family in FAMILIES
        ),
    ]


def _seg6(endpoint: Endpoint) -> list[Declared]:
    inside, home_agent = endpoint.namespace, endpoint.home_agent
    return [
        Route(inside, f"{KERNEL_SIDE_IPV4}/32", KERNEL_SIDE, TOUT, INGRESS_TABLE),
        TunnelSource(inside, home_agent),
        Decapsulation(inside, home_agent, TOUT, PLAIN_TABLE, IPV6_PAYLOAD_TABLE),
        Decapsulation(inside, home_agent, TOUT, KERNEL_SIDE_IPV4, IPV4_PAYLOAD_TABLE),
    ]


def _seg6_rules(endpoint: Endpoint) -> list[Rule]:
    inside, home_agent = endpoint.namespace, endpoint.home_agent
    return [
        Rule(inside, ERRORS_RULE, ERRORS_TABLE, iifname=TOUT, dst=home_agent, ip_proto=IPPROTO_ICMPV6),
        # Tunnel packets to another home address: else they would leave as if encapsulated here, and come back for ever.
        Rule(inside, NESTED_RULE, MAIN_TABLE, iifname=ENC_OUT, fwmark=NESTED_MARK),
        Rule(inside, PLAIN_RULE, PLAIN_TABLE, iifname=ENC_OUT, src=home_agent, ip_proto=IPV6.next_header),
        Rule(inside, PLAIN_IPV4_RULE, PLAIN_TABLE, iifname=ENC_OUT, src=home_agent, ip_proto=IPV4.next_header),
        # Tunnel packets with a payload for the home agent go on unchanged.
        Rule(inside, LEFT_RULE, PLAIN_TABLE, iifname=TIN, fwmark=KEPT_BACK_MARK),
        Rule(inside, IPV4_PAYLOAD_RULE, IPV4_PAYLOAD_TABLE, iifname=TIN, fwmark=IPV4_MARK),
        Rule(inside, IPV6_PAYLOAD_RULE, IPV6_PAYLOAD_TABLE, iifname=TIN, fwmark=IPV6_MARK),
    ]


def _program_rules(endpoint: Endpoint) -> list[Rule]:
    """Return the rules for tunnel packets, which leave by tout: the program there goes by their marks."""
    inside, home_agent = endpoint.namespace, endpoint.home_agent
    marks = {LEFT_RULE: KEPT_BACK_MARK, IPV4_PAYLOAD_RULE: IPV4_MARK, IPV6_PAYLOAD_RULE: IPV6_MARK}
    return [
        Rule(inside, ERRORS_RULE, ERRORS_TABLE, AF_INET, iifname=TOUT, dst=home_agent, ip_proto=IPPROTO_ICMP),
        *(Rule(inside, rule, PLAIN_TABLE, AF_INET, iifname=TIN, fwmark=mark) for rule, mark in marks.items()),
    ]


def _filters(endpoint: Endpoint) -> list[Declared]:
    inside, home_agent = endpoint.namespace, endpoint.home_agent
    tables = (
        SpoofingFilter(inside, home_agent, KEPT_BACK_MARK).table,
        # The program writes the whole outer header.
        *(() if endpoint.is_ipv4 else (outer_header.table(home_agent),)),
        *endpoint_tables(endpoint),
    )
    return [
        *(NftTable(inside, table) for table in tables),
        OnlyTables(inside, frozenset((table.family, table.name) for table in tables)),
        *(NftTable(endpoint.kernel_namespace, table) for table in kernel_tables(endpoint)),
    ]
