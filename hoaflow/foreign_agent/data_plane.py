# SPDX-License-Identifier: Apache-2.0
"""Carry visitors' packets between their link and their home agents' tunnels (RFC 5944, section 4.2.2; RFC 3024).

    from a home agent    rule 5, mark of accepted packets: table 41,    hoaflow-in: decapsulated
                         via hoaflow-out
    out of its tunnel    rule 6, that mark: table 252,                  to the visitor's link-layer address
                         HOME ADDRESS dev ACCESS-LINK
    a visitor's          rule 20, its own mark: table 200,              hoaflow-in: encapsulated, and routed on
                         via hoaflow-out

Home addresses have routes for what has come out of a tunnel alone: whoever registers one with a home agent of his own
gets nothing else that is sent to it. What comes out for a visitor that has just left is dropped, as it would go to its
home agent again. The packets of visitors without a reverse tunnel are routed like those of other hosts.

The check of sources of access links has to be loose for visitors (rp_filter), so nftables checks them: a source that is
not of the link must be a visitor's, and a visitor's has its link-layer address.
"""

import socket
import struct
from collections.abc import Iterable

from hoaflow.addresses import format_address, parse_address
from hoaflow.foreign_agent.checks import Station
from hoaflow.foreign_agent.visitor_neighbours import VisitorNeighbours
from hoaflow.linux import AF_INET, AF_INET6, RTA_METRICS, RTA_OIF, RTA_PRIORITY, RTAX_MTU
from hoaflow.mobile_ipv4.hairpin import IPV4_HEADER, change_ends, tunnelling
from hoaflow.mobility.binding_objects import OWNER, HostRoute, HostRoutes, RouteMaker, metric_of, next_hop
from hoaflow.mobility.hairpin import ENTRY, EXIT, EXIT_ADDRESS, tunnel_mtu
from hoaflow.mobility.objects import RestoredSetting
from hoaflow.mobility.set_elements import SetElements, counters, padded, source_shown
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.icmp_errors import TunnelPacketError
from hoaflow.tunnel.links import remove_neighbour
from hoaflow.tunnel.nfnetlink import Count, Element
from hoaflow.tunnel.nft_table import Table
from hoaflow.tunnel.objects import NftTable
from hoaflow.tunnel.routing import Rule
from hoaflow.tunnel.rtnetlink import attribute
from hoaflow.tunnel.spoofing_filter import IPV4_MARK
from hoaflow.tunnel.tunnel_program import SOURCE

REVERSE_TABLE, VISITORS_TABLE = 200, 252
VISITORS_RULE, REVERSE_RULE = 6, 20
REVERSE_MARK = 3024
METRIC, DEFAULT = 192, "0.0.0.0/0"
FAMILY, TABLE = "ip", "hoaflow_fa"
# Home agents' replies come from port 434; a mobile node that answers its own request would be served for any address.
# @th,128,32 is the destination of the packet in a tunnel. Multicast is not for the tunnel (RFC 3024, section 5.4).
# -300 (raw): before routing, which goes by the marks. The program in the hairpin leaves alone what has a mark that is
# not its own, so what enters to be encapsulated has none.
RULESET = """
table ip hoaflow_fa {{
    counter accepted {{ }}
    counter dropped {{ }}
    counter spoofed {{ }}
    set tunnels {{ typeof ip saddr . @th,128,32; }}
    set stations {{ typeof ether saddr . ip saddr; }}
    set visitors {{ typeof ip saddr; }}
    set reverse {{ typeof ip saddr; }}
    chain tunnel {{ }}
    chain access {{ }}
    chain prerouting {{ type filter hook prerouting priority raw; policy accept; }}
    chain forward {{ type filter hook forward priority raw; policy accept; }}
    chain postrouting {{ type filter hook postrouting priority mangle; policy accept; }}
}}
flush chain ip hoaflow_fa tunnel
flush chain ip hoaflow_fa access
flush chain ip hoaflow_fa prerouting
flush chain ip hoaflow_fa forward
flush chain ip hoaflow_fa postrouting
table ip hoaflow_fa {{
    chain tunnel {{
        iifname {{ {links} }} counter name dropped drop
        ip frag-off & 0x3fff != 0 counter name dropped drop
        ip saddr . @th,128,32 @tunnels meta mark set {mark} counter name accepted accept
        counter name dropped drop
    }}
    chain access {{
        ip saddr @visitors ether saddr . ip saddr != @stations counter name spoofed drop
        ip daddr {address} udp sport 434 udp dport != 434 counter name spoofed drop
        ip saddr @reverse ip daddr != 224.0.0.0/4 meta mark set {reverse_mark}
    }}
    chain prerouting {{
        iifname {{ {links} }} jump access
        ip daddr {address} meta l4proto 4 jump tunnel
    }}
    chain forward {{
        iifname {{ {links} }} fib saddr . iif oif missing ip saddr != @visitors counter name spoofed drop
        iifname "{exit}" meta mark {mark} oifname != {{ {links} }} counter name dropped drop
    }}
    chain postrouting {{
        oifname "{entry}" meta mark {reverse_mark} meta mark set 0
    }}
}}
"""


class DataPlane:
    """The kernel's part of a foreign agent. `serve` and `forget` are idempotent and raise one of KERNEL_ERRORS."""

    def __init__(self, address: str, links: tuple[str, ...]) -> None:
        """Open sockets. `address` is the care-of address, `links` are access links. Raises OSError."""
        self._address, self._links = address, links
        self._tunnels: SetElements[str] = SetElements(
            FAMILY, TABLE, "tunnels", "pairs of home agent and home address", _tunnel, _tunnel_shown
        )
        self._stations: SetElements[bytes] = SetElements(
            FAMILY, TABLE, "stations", "visitors' link-layer addresses", _station, source_shown
        )
        self._visitors: SetElements[None] = SetElements(
            FAMILY, TABLE, "visitors", "visitors' addresses", _address, _address_shown
        )
        self._sources: SetElements[None] = SetElements(
            FAMILY, TABLE, "reverse", "visitors with a reverse tunnel", _address, _address_shown
        )
        self._sets = (self._tunnels, self._stations, self._visitors, self._sources)
        self._interfaces: dict[str, str] = {}  # home address → access link
        self._where: dict[str, Station] = {}
        self._reverse: dict[str, str] = {}  # home address → home agent
        self._neighbours = VisitorNeighbours(links, self._where)
        self._routes = RouteMaker(VISITORS_TABLE, OWNER)

    def declaration(self) -> list[Declared]:
        """Return what the kernel must have. The filter comes first, as nothing may be decapsulated without it."""
        text = RULESET.format(
            address=self._address,
            links=", ".join(f'"{link}"' for link in self._links),
            mark=IPV4_MARK,
            reverse_mark=REVERSE_MARK,
            entry=ENTRY,
            exit=EXIT,
        )
        table = Table(FAMILY, TABLE, text, "the filter of visitors' and home agents' packets", terse=True)
        return [
            NftTable(None, table),
            *self._sets,
            *tunnelling(self._address, SOURCE, self._reverse),
            HostRoutes(VISITORS_TABLE, self._interfaces, _leading_to, lambda _: True, self._put_routes, AF_INET),
            HostRoutes(REVERSE_TABLE, {DEFAULT: ENTRY}, _into_hairpin, lambda _: True, _put_reverse_route, AF_INET),
            self._neighbours,
            Rule(None, VISITORS_RULE, VISITORS_TABLE, AF_INET, iifname=EXIT, fwmark=IPV4_MARK),
            Rule(None, REVERSE_RULE, REVERSE_TABLE, AF_INET, fwmark=REVERSE_MARK),
            *(setting for link in self._links for setting in _access_link(link)),
        ]

    def serve(self, home_address: str, station: Station, home_agent: str, reverse: bool) -> None:
        """Carry a visitor's packets from its home agent to its station; `reverse`: what it sends, to its home agent."""
        self._stations.put(home_address, station.mac)
        self._visitors.put(home_address, None)
        former = self._where.get(home_address, station)
        self._where[home_address], self._interfaces[home_address] = station, station.link
        self._neighbours.put(home_address)
        if former.link != station.link:
            remove_neighbour(None, former.link, home_address)
        self._put_routes([home_address])
        self._tunnels.put(home_address, home_agent)
        if reverse:
            self._reverse[home_address] = home_agent
            change_ends({home_address: home_agent})
            self._sources.put(home_address, None)
        else:
            self._end_reverse_tunnel(home_address)

    def forget(self, home_address: str) -> None:
        """Stop carrying a visitor's packets; fine if they are not carried."""
        self._tunnels.drop(home_address)
        self._end_reverse_tunnel(home_address)
        self._visitors.drop(home_address)
        self._stations.drop(home_address)
        if self._interfaces.pop(home_address, None) is not None:
            self._routes.delete(home_address)
        if (former := self._where.pop(home_address, None)) is not None:
            remove_neighbour(None, former.link, home_address)

    def carries_packet_of(self, error: TunnelPacketError) -> bool:
        """Tell whether an ICMP error is about a visitor's packet in a reverse tunnel."""
        return self._reverse.get(error.inner_source) == error.outer_destination

    @staticmethod
    def counters() -> dict[str, Count]:
        """Return counters by name: `accepted` and `dropped` tunnel packets, `spoofed` ones of access links."""
        return counters(FAMILY, TABLE)

    @property
    def ports(self) -> frozenset[int]:
        """Netlink ports over which `serve` and `forget` make changes."""
        return frozenset((self._routes.port, *(each.port for each in self._sets)))

    def close(self) -> None:
        """Close its sockets."""
        self._routes.close()
        for each in self._sets:
            each.close()

    def _end_reverse_tunnel(self, home_address: str) -> None:
        if self._reverse.pop(home_address, None) is not None:
            self._sources.drop(home_address)
            change_ends({}, [home_address])

    def _put_routes(self, home_addresses: Iterable[str]) -> None:
        indexes = {each: socket.if_nametoindex(self._interfaces[each]) for each in home_addresses}
        self._routes.put(indexes, METRIC)


def _access_link(link: str) -> list[Declared]:
    return [
        RestoredSetting(f"{link}.forwarding", "1", "ipv4"),
        RestoredSetting(f"{link}.rp_filter", "2", "ipv4"),
    ]


def _leading_to(actual: ActualState, home_address: str, interface: str) -> HostRoute:
    return HostRoute(OWNER, metric_of(home_address, METRIC), actual.link(None, interface).number)


def _into_hairpin(actual: ActualState, _prefix: str, entry: str) -> HostRoute:
    mtu = tunnel_mtu(actual, IPV4_HEADER)
    return HostRoute(OWNER, METRIC, actual.link(None, entry).number, EXIT_ADDRESS, mtu=mtu)


def _put_reverse_route(prefixes: Iterable[str]) -> None:
    with ActualState() as actual:
        mtu, index = tunnel_mtu(actual, IPV4_HEADER), actual.link(None, ENTRY).number
    rest = attribute(RTA_PRIORITY, struct.pack("=I", METRIC)) + attribute(RTA_OIF, struct.pack("=I", index))
    rest += next_hop(DEFAULT, socket.inet_pton(AF_INET6, EXIT_ADDRESS))
    rest += attribute(RTA_METRICS, attribute(RTAX_MTU, struct.pack("=I", mtu)))
    routes = RouteMaker(REVERSE_TABLE, OWNER)
    try:
        routes.put_all(dict.fromkeys(prefixes, rest))
    finally:
        routes.close()


def _tunnel(home_address: str, home_agent: str) -> Element:
    return Element(parse_address(home_agent) + parse_address(home_address))


def _tunnel_shown(element: Element) -> str:
    return f"{format_address(element.key[:4])} {format_address(element.key[4:])}"


def _station(home_address: str, mac: bytes) -> Element:
    return Element(padded(mac) + parse_address(home_address))


def _address(home_address: str, _: None) -> Element:
    return Element(parse_address(home_address))


def _address_shown(element: Element) -> str:
    return format_address(element.key)
