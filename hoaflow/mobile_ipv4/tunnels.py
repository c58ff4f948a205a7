# SPDX-License-Identifier: Apache-2.0
"""Tunnel packets to care-of addresses in IPv4, and check what comes back through the tunnels (RFC 2003, RFC 3024).

The hairpin's program adds and removes the outer headers:

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
from collections.abc import Iterable

from hoaflow.addresses import parse_address
from hoaflow.linux import AF_INET, AF_INET6, MAIN_TABLE, RTA_METRICS, RTA_OIF, RTA_PRIORITY, RTAX_MTU
from hoaflow.mobile_ipv4.hairpin import IPV4_HEADER, change_ends, tunnelling
from hoaflow.mobility.binding_objects import (
    OWNER,
    AcceptedPairs,
    HostRoute,
    HostRoutes,
    RouteMaker,
    leads_into_tunnel,
    next_hop,
)
from hoaflow.mobility.hairpin import ENTRY, EXIT, EXIT_ADDRESS, tunnel_mtu
from hoaflow.mobility.routes import CareOfAddressRoutes
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.icmp_errors import TunnelPacketError
from hoaflow.tunnel.nft_table import Table
from hoaflow.tunnel.objects import NftTable
from hoaflow.tunnel.rtnetlink import attribute
from hoaflow.tunnel.spoofing_filter import Counters, SpoofingFilter
from hoaflow.tunnel.tunnel_program import DESTINATION

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
        marks = MARKS.replace("{home_agent}", self._home_agent)
        return [
            NftTable(None, self._pairs.table),
            AcceptedPairs(self._pairs, self._reverse),
            NftTable(None, Table(FAMILY, TABLE, marks, "the tunnel program's marks")),
            *tunnelling(self._home_agent, DESTINATION, self._wanted),
            HostRoutes(MAIN_TABLE, self._wanted, _route, leads_into_tunnel, self._put, AF_INET),
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
            change_ends({home_address: care_of_address})
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
        change_ends({}, [home_address])
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


def _metric(care_of_address: str) -> int:
    return int.from_bytes(parse_address(care_of_address), "big")


def _route(actual: ActualState, _home_address: str, care_of_address: str) -> HostRoute:
    interface, mtu = actual.link(None, ENTRY).number, tunnel_mtu(actual, IPV4_HEADER)
    return HostRoute(OWNER, _metric(care_of_address), interface, EXIT_ADDRESS, mtu=mtu)
