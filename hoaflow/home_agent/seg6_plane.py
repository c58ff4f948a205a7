# SPDX-License-Identifier: Apache-2.0
"""The home agent's tunnels where the kernel has no ip6_tunnel: seg6 reduced encapsulation, End.DT6 decapsulation.

A seg6 route encapsulates before the kernel has forwarded the inner packet: no hop limit is decremented and no Packet
Too Big is sent, so a tunnel's smaller MTU would swallow large packets. So a packet for a home address goes through a
pair of veth devices first, the hairpin, whose MTU is the tunnel's: on its way in it is forwarded as any other packet.

    rule 6   not iif hoaflow-in   lookup 42     table 42   HOA dev hoaflow-out          (forwarded: hop limit, MTU)
             from hoaflow-in      table main               HOA encap seg6 ... segs COA  (encapsulated)

The encapsulating routes and the decapsulating one name the hairpin as their device, which no packet of theirs leaves
by: the kernel looks up the packet anew. So they stay when an uplink or the home link goes down and comes back.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from hoaflow.addresses import parse_ipv6_address
from hoaflow.home_agent import untracked
from hoaflow.home_agent.declared import HostRoute, HostRoutes, RouteMaker
from hoaflow.home_agent.hairpin import ENTRY, EXIT, EXIT_ADDRESS, hairpin
from hoaflow.home_agent.home_link import OWNER
from hoaflow.home_agent.objects import Borrowed, LocalRule
from hoaflow.linux import AF_INET6, MAIN_TABLE
from hoaflow.tunnel import outer_header
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.local import DECAPSULATION_TABLE, LOCAL_RULE_PREFERENCE, TUNNEL_RULE_PREFERENCE
from hoaflow.tunnel.look import Look
from hoaflow.tunnel.objects import NftTable
from hoaflow.tunnel.pairs import IPV6_MARK
from hoaflow.tunnel.routing import Decapsulation, OnlyRoutes, Rule, TunnelSource
from hoaflow.tunnel.seg6 import Seg6Routes, encapsulation

HAIRPIN_TABLE = 42
HAIRPIN_OWNER = 104
"""Not OWNER: who follows the kernel's tunnels (protocol 16) is to see the encapsulating routes only."""
RULE_PREFERENCE = 6
ALL_TABLES = 0
"""End.DT6's lookup by the rules of the namespace: inner packets for the home agent itself are delivered, too."""
METRIC = 1024
"""The kernel's for IPv6 routes that are given none."""


class Seg6Plane:
    """Tunnels by routes; the kernel's state is found again by route protocol, table and device names."""

    name = "seg6"
    relays_errors = False

    def __init__(self, home_agent: str, wanted: Mapping[str, str]) -> None:
        """`wanted`: {home address: care-of address}, which whoever calls `tunnel` and `untunnel` keeps."""
        self._home_agent, self._wanted = home_agent, wanted
        self._routes = Seg6Routes(protocol=OWNER)
        self._through = RouteMaker(HAIRPIN_TABLE, HAIRPIN_OWNER)

    def declaration(self) -> list[Declared]:
        """See `Plane`."""
        hosts = HostRoutes(
            MAIN_TABLE, self._wanted, _encapsulating, lambda route: route.protocol == OWNER, self._encapsulate
        )
        through = HostRoutes(HAIRPIN_TABLE, self._wanted, _through_hairpin, lambda _: True, self._lead_through_hairpin)
        return [
            *hairpin(),
            Borrowed(f"{EXIT}.forwarding", "1"),
            TunnelSource(None, self._home_agent),
            NftTable(None, outer_header.table(self._home_agent)),
            NftTable(None, untracked.table()),
            hosts,
            through,
            Rule(None, RULE_PREFERENCE, HAIRPIN_TABLE, iifname=EXIT, invert=True),
            Decapsulation(None, self._home_agent, EXIT, ALL_TABLES, DECAPSULATION_TABLE),
            OnlyRoutes(None, AF_INET6, DECAPSULATION_TABLE),
            LocalRule(LOCAL_RULE_PREFERENCE),
            # By the mark of accepted pairs: without the check nothing is decapsulated. And by protocol: a packet from
            # within keeps the mark of the tunnel packet that it came in.
            Rule(
                None,
                TUNNEL_RULE_PREFERENCE,
                DECAPSULATION_TABLE,
                dst=f"{self._home_agent}/128",
                fwmark=IPV6_MARK,
                ip_proto=socket.IPPROTO_IPV6,
            ),
        ]

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """See `Plane`."""
        self._routes.encapsulate(home_address, care_of_address, None, EXIT)
        self._lead_through_hairpin([home_address])

    def untunnel(self, home_address: str) -> None:
        """See `Plane`."""
        self._through.delete(home_address)
        self._routes.remove(home_address)

    @property
    def ports(self) -> frozenset[int]:
        """See `Plane`."""
        return frozenset((self._routes.port, self._through.port))

    def device(self, home_address: str) -> str:
        """See `Plane`."""
        return self.name

    def close(self) -> None:
        """See `Plane`."""
        self._routes.close()
        self._through.close()

    def _encapsulate(self, home_addresses: Iterable[str]) -> None:
        refused = self._routes.encapsulate_all({home: self._wanted[home] for home in home_addresses}, None, EXIT)
        for home_address, reason in refused.items():
            raise LinkError(f"route {home_address} encapsulated to its care-of address: {reason}")

    def _lead_through_hairpin(self, home_addresses: Iterable[str]) -> None:
        entry = socket.if_nametoindex(ENTRY)
        gateway = parse_ipv6_address(EXIT_ADDRESS)
        self._through.put(dict.fromkeys(home_addresses, entry), METRIC, gateway)


def _encapsulating(look: Look, care_of_address: str) -> HostRoute:
    return HostRoute(OWNER, METRIC, look.link(None, EXIT).number, encap=encapsulation(care_of_address))


def _through_hairpin(look: Look, _: str) -> HostRoute:
    return HostRoute(HAIRPIN_OWNER, METRIC, look.link(None, ENTRY).number, EXIT_ADDRESS)
