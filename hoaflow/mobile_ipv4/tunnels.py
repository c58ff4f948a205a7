# SPDX-License-Identifier: Apache-2.0
"""Tunnel packets to care-of addresses in IPv4, and check what comes back through the tunnels (RFC 2003, RFC 3024).

The BPF program of `hoaflow.tunnel.tunnel_program` adds and removes the outer headers, as the kernel may have no ipip.
It runs where packets come out of a pair of veth devices with both ends here, the hairpin:

    a home address      main table: via hoaflow-out                    hoaflow-in: encapsulated, and routed on
    from care-of        rule 5, mark of accepted pairs: table 41,      hoaflow-in: decapsulated, and routed on
                        via hoaflow-out

So ordinary routing forwards each packet into the hairpin: Time Exceeded and Fragmentation Needed are the kernel's, by
the MTU that the home addresses' routes have. Without offloads, the hairpin splits what an interface has joined (GRO)
before the program sees it.

The metric of a home address's route is its care-of address, as a number: those who follow the kernel's routes
(ha-bridge) notice each move, and a route that stands for a former one is seen.
"""

import socket
import struct
from collections.abc import Iterable, Mapping

from hoaflow.addresses import parse_address
from hoaflow.linux import AF_INET, AF_INET6, MAIN_TABLE, RTA_METRICS, RTA_OIF, RTA_PRIORITY, RTAX_MTU
from hoaflow.mobility.binding_objects import (
    OWNER,
    AcceptedPairs,
    HostRoute,
    HostRoutes,
    RouteMaker,
    leads_into_tunnel,
    next_hop,
    summary,
)
from hoaflow.mobility.hairpin import ENTRY, ENTRY_MAC, EXIT, EXIT_ADDRESS, EXIT_MAC, ipv4_exit, tunnel_mtu
from hoaflow.mobility.objects import LocalRule
from hoaflow.mobility.routes import CareOfAddressRoutes
from hoaflow.tunnel.actual_state import ActualState, MissingParent
from hoaflow.tunnel.bpf import BpfError
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.icmp_errors import TunnelPacketError
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.local_decapsulation import DECAPSULATION_TABLE, LOCAL_RULE_PREFERENCE, TUNNEL_RULE_PREFERENCE
from hoaflow.tunnel.nft_table import Table
from hoaflow.tunnel.objects import FixedNeighbour, Free, Mac, Mtu, NftTable, NoOffloads, Setting, Up, Veth
from hoaflow.tunnel.routing import OnlyRoutes, Route, Rule
from hoaflow.tunnel.rtnetlink import attribute
from hoaflow.tunnel.spoofing_filter import IPV4, IPV4_MARK, Counters, SpoofingFilter
from hoaflow.tunnel.tc import Hook
from hoaflow.tunnel.tunnel_filter import TunnelMaps, TunnelProgram

IPV4_HEADER = 20
ANY_SIZE = 65535
"""Octets: the hairpin carries tunnel packets of any size; home addresses' routes have the MTU of the tunnels."""
FAMILY, TABLE = "ip", "hoaflow_ha_marks"
# The program goes by marks, and leaves alone what has any other. So what enters the hairpin has none, except tunnel
# packets from mobile nodes; and what has left it none of its tunnel's, as it may enter once more, to a mobile node.
# -310: before the spoofing filter (raw, -300), which sets the mark.
MARKS = f"""
table {FAMILY} {TABLE} {{
    chain prerouting {{
        type filter hook prerouting priority -310; policy accept;
        iifname "{EXIT}" meta mark set 0
    }}
    chain postrouting {{
        type filter hook postrouting priority mangle; policy accept;
        oifname "{ENTRY}" ip daddr != {{home_agent}} meta mark set 0
    }}
}}
"""


class Tunnels:
    """The data plane and the spoofing filter, and which bindings they should hold."""

    def __init__(self, home_agent: str) -> None:
        """Open sockets. Raises OSError."""
        self._home_agent = home_agent
        self._wanted: dict[str, str] = {}  # home address → care-of address
        self._reverse: dict[str, str] = {}  # those of them whose packets come in a tunnel, too
        self._pairs = SpoofingFilter(destination=home_agent)
        self._routes = RouteMaker(MAIN_TABLE, OWNER)

    def declaration(self) -> list[Declared]:
        """Return what the kernel must have. The filter comes first, as nothing may be decapsulated without it."""
        home_agent = f"{self._home_agent}/32"
        marks = MARKS.replace("{home_agent}", self._home_agent)
        program = TunnelProgram(None, EXIT, self._home_agent, Hook.INGRESS)
        mark = Rule(
            None,
            TUNNEL_RULE_PREFERENCE,
            DECAPSULATION_TABLE,
            AF_INET,
            dst=home_agent,
            fwmark=IPV4_MARK,
            ip_proto=IPV4.next_header,
        )
        return [
            NftTable(None, self._pairs.table),
            AcceptedPairs(self._pairs, self._reverse),
            NftTable(None, Table(FAMILY, TABLE, marks, "the tunnel program's marks")),
            *_hairpin(),
            program,
            MapEntries(self._wanted),
            HostRoutes(MAIN_TABLE, self._wanted, _route, leads_into_tunnel, self._put, AF_INET),
            Route(None, "0.0.0.0/0", EXIT_ADDRESS, ENTRY, DECAPSULATION_TABLE),
            OnlyRoutes(None, AF_INET, DECAPSULATION_TABLE),
            LocalRule(LOCAL_RULE_PREFERENCE, family=AF_INET),
            mark,
        ]

    def care_of_address_routes(self) -> Declared:
        """Return the declared object for the routes of tunnelled packets."""
        return CareOfAddressRoutes(self._home_agent, self._wanted)

    def tunnel(self, home_address: str, care_of_address: str, reverse: bool) -> None:
        """Tunnel packets for a home address to a care-of address instead of any former one; `reverse`: from it, too.

        Raises one of KERNEL_ERRORS; mending the declaration then makes up for it.
        """
        before, accepted = self._wanted.get(home_address), self._reverse.pop(home_address, None)
        if reverse:
            self._reverse[home_address] = care_of_address
        if before != care_of_address:
            self._wanted[home_address] = care_of_address
            with TunnelMaps(None, EXIT, Hook.INGRESS) as maps:
                _check(maps.put_all({home_address: care_of_address}))
            self._put([home_address])
            if before is not None:
                self._routes.delete(home_address, _metric(before))
        pair, former = (care_of_address, home_address), (accepted or "", home_address)
        if accepted != self._reverse.get(home_address):
            self._pairs.change(add=[pair] if reverse else [], remove=[former] if accepted else [])

    def untunnel(self, home_address: str) -> None:
        """Stop tunnelling a home address's packets; fine if they were not tunnelled. Raises as `tunnel` does."""
        before, accepted = self._wanted.pop(home_address, None), self._reverse.pop(home_address, None)
        if before is None:
            return
        self._routes.delete(home_address, _metric(before))
        with TunnelMaps(None, EXIT, Hook.INGRESS) as maps:
            _check(maps.remove_all([home_address]))
        if accepted is not None:
            self._pairs.remove([(accepted, home_address)])

    def carries_packet_of(self, error: TunnelPacketError) -> bool:
        """Tell whether an ICMP error is about a packet that is tunnelled here."""
        return self._wanted.get(error.inner_destination) == error.outer_destination

    def counters(self) -> Counters:
        """Return the numbers of reverse-tunnelled packets accepted and dropped."""
        return self._pairs.counters()

    @property
    def ports(self) -> frozenset[int]:
        """Netlink ports over which `tunnel` and `untunnel` make changes."""
        return frozenset((self._routes.port, self._pairs.port))

    def close(self) -> None:
        """Close its sockets."""
        self._routes.close()
        self._pairs.close()

    def _put(self, home_addresses: Iterable[str]) -> None:
        with ActualState() as actual:
            mtu = tunnel_mtu(actual, IPV4_HEADER)
        common = next_hop(self._home_agent, socket.inet_pton(AF_INET6, EXIT_ADDRESS))
        common += attribute(RTA_OIF, struct.pack("=I", socket.if_nametoindex(ENTRY)))
        common += attribute(RTA_METRICS, attribute(RTAX_MTU, struct.pack("=I", mtu)))
        metrics = {home: struct.pack("=I", _metric(self._wanted[home])) for home in home_addresses}
        self._routes.put_all({home: common + attribute(RTA_PRIORITY, metric) for home, metric in metrics.items()})


class MapEntries:
    """The program's entries: exactly those of the bindings."""

    def __init__(self, wanted: Mapping[str, str]) -> None:
        """Declare them. `wanted` maps home addresses to care-of addresses; it may change any time."""
        self._wanted = wanted

    def __str__(self) -> str:
        return "home addresses in the tunnel program's maps"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        actual.link(None, EXIT)
        try:
            with TunnelMaps(None, EXIT, Hook.INGRESS) as maps:
                found = maps.installed()
        except BpfError as error:
            raise MissingParent(str(error)) from error
        wrong = [home for home, care_of in found.items() if self._wanted.get(home) != care_of]
        return summary("entries of the tunnel program", sorted(self._wanted.keys() - found.keys()), wrong)

    def make(self) -> None:
        """See `Declared`."""
        with TunnelMaps(None, EXIT, Hook.INGRESS) as maps:
            _check(maps.remove_all(maps.installed().keys() - self._wanted.keys()))
            _check(maps.put_all(self._wanted))

    def remove(self) -> None:
        """Do nothing: they go with the program."""


def _hairpin() -> list[Declared]:
    ends = (ENTRY, ENTRY_MAC), (EXIT, EXIT_MAC)
    settings = (
        *(("ipv6", f"{name}.disable_ipv6", "0") for name, _ in ends),
        *(("ipv4", f"{name}.forwarding", "1") for name, _ in ends),
    )
    return [
        Veth(None, ENTRY, ENTRY_MAC, None, EXIT, EXIT_MAC, ANY_SIZE),
        *(each for name, mac in ends for each in (Mac(None, name, mac), Mtu(None, name, ANY_SIZE), Free(None, name))),
        NoOffloads(None, ENTRY),
        *(Setting(None, *setting) for setting in settings),
        *(Up(None, name) for name, _ in ends),
        *ipv4_exit(),
        FixedNeighbour(None, ENTRY, EXIT_ADDRESS, EXIT_MAC),
    ]


def _metric(care_of_address: str) -> int:
    return int.from_bytes(parse_address(care_of_address), "big")


def _route(actual: ActualState, _home_address: str, care_of_address: str) -> HostRoute:
    interface, mtu = actual.link(None, ENTRY).number, tunnel_mtu(actual, IPV4_HEADER)
    return HostRoute(OWNER, _metric(care_of_address), interface, EXIT_ADDRESS, mtu=mtu)


def _check(refused: Mapping[str, str]) -> None:
    for home_address, reason in refused.items():
        raise LinkError(f"tunnel for {home_address}: {reason}")
