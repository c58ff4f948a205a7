# SPDX-License-Identifier: Apache-2.0
"""Tunnel with seg6, if the kernel has no ip6_tunnel: reduced encapsulation and End.DT6 decapsulation.

A seg6 route encapsulates before the kernel forwards the inner packet: it neither decrements the hop limit nor sends
Packet Too Big, so large packets would be lost. Therefore a packet to a home address first passes a pair of veth
devices, the hairpin, which has the MTU of the tunnel, and is forwarded into it as usual.

    rule 6   not iif hoaflow-in   lookup 42     table 42   HOA dev hoaflow-out          (forwarded: hop limit, MTU)
             from hoaflow-in      table main               HOA encap seg6 ... segs COA  (encapsulated)

IPv4 home addresses (RFC 5555) have the same routes and rules of IPv4. What comes from them is decapsulated by End.DX4,
which looks up the inner packet's own destination when its next hop is 0.0.0.0:

    rule 4   to HA, protocol 4, mark of accepted pairs   lookup 43   table 43   HA encap seg6local End.DX4

A local mobility anchor has its routes in a table of their own instead of main, as others have.

The routes that encapsulate and decapsulate name the hairpin as their device, though their packets do not leave by it:
the kernel looks up the new packet's route. So the routes survive when an uplink or the home link goes down.
"""

import socket
from collections.abc import Iterable, Mapping

from hoaflow.addresses import parse_ipv6_address
from hoaflow.linux import AF_INET, AF_INET6
from hoaflow.mobility import untracked
from hoaflow.mobility.binding_objects import OWNER, HostRoute, HostRoutes, RouteMaker, leads_into_tunnel, metric_of
from hoaflow.mobility.hairpin import ENTRY, EXIT, EXIT_ADDRESS, hairpin, ipv4_exit
from hoaflow.mobility.objects import LocalRule, MainRule, RestoredSetting
from hoaflow.tunnel import outer_header
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.local_decapsulation import DECAPSULATION_TABLE, LOCAL_RULE_PREFERENCE, TUNNEL_RULE_PREFERENCE
from hoaflow.tunnel.objects import NftTable
from hoaflow.tunnel.routing import Decapsulation, OnlyRoutes, Rule, TunnelSource
from hoaflow.tunnel.seg6 import Seg6Routes, encapsulation
from hoaflow.tunnel.spoofing_filter import IPV4, IPV4_MARK, IPV6_MARK

HAIRPIN_TABLE = 42
HAIRPIN_OWNER = 104
"""Not OWNER: those who follow the kernel's tunnels (protocol 16) should see only the encapsulating routes."""
RULE_PREFERENCE = 6
ALL_TABLES = 0
"""Has End.DT6 look up by all rules, so that inner packets to the home agent itself are delivered."""
METRIC = 1024
"""The kernel's default for IPv6 routes."""
IPV4_RULE_PREFERENCE, IPV4_DECAPSULATION_TABLE = 4, 43
BY_DESTINATION = "0.0.0.0"
"""The next hop with which End.DX4 looks up the inner packet's destination."""


class Seg6Plane:
    """Tunnels by routes. Route protocols, tables and device names identify what is ours."""

    name = "seg6"
    relays_errors = False

    def __init__(self, home_agent: str, wanted: Mapping[str, str], table: int, ipv4: bool = False) -> None:
        """Open sockets. `wanted` maps home addresses to care-of addresses; callers keep it up to date.

        `table` gets the routes that encapsulate. `ipv4`: there are IPv4 home addresses, too.
        """
        self._home_agent, self._wanted, self._table, self._ipv4 = home_agent, wanted, table, ipv4
        self._routes = Seg6Routes(protocol=OWNER)
        self._through = RouteMaker(HAIRPIN_TABLE, HAIRPIN_OWNER)

    def declaration(self) -> list[Declared]:
        """See `Plane`."""
        return [
            *hairpin(),
            RestoredSetting(f"{EXIT}.forwarding", "1"),
            TunnelSource(None, self._home_agent),
            NftTable(None, outer_header.table(self._home_agent)),
            NftTable(None, untracked.table(self._home_agent)),
            *self._routes_of(AF_INET6),
            Decapsulation(None, self._home_agent, EXIT, ALL_TABLES, DECAPSULATION_TABLE),
            OnlyRoutes(None, AF_INET6, DECAPSULATION_TABLE),
            LocalRule(LOCAL_RULE_PREFERENCE),
            # By the mark of accepted pairs, so that nothing is decapsulated without the check; and by protocol, as an
            # inner packet keeps the mark of its tunnel packet.
            Rule(
                None,
                TUNNEL_RULE_PREFERENCE,
                DECAPSULATION_TABLE,
                dst=f"{self._home_agent}/128",
                fwmark=IPV6_MARK,
                ip_proto=socket.IPPROTO_IPV6,
            ),
            *(self._ipv4_declaration() if self._ipv4 else []),
        ]

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """See `Plane`."""
        self._routes.encapsulate(home_address, care_of_address, None, EXIT, self._table)
        self._lead_through_hairpin([home_address])

    def untunnel(self, home_address: str) -> None:
        """See `Plane`."""
        self._through.delete(home_address)
        self._routes.remove(home_address, self._table)

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

    def _routes_of(self, family: int) -> list[Declared]:
        """Return the routes of one family's home addresses, and the rule that leads into the hairpin."""
        return [
            HostRoutes(self._table, self._wanted, _encapsulating, leads_into_tunnel, self._encapsulate, family),
            HostRoutes(
                HAIRPIN_TABLE, self._wanted, _through_hairpin, lambda _: True, self._lead_through_hairpin, family
            ),
            Rule(None, RULE_PREFERENCE, HAIRPIN_TABLE, family, iifname=EXIT, invert=True),
        ]

    def _ipv4_declaration(self) -> list[Declared]:
        return [
            MainRule(AF_INET),
            RestoredSetting("all.forwarding", "1", "ipv4"),
            *ipv4_exit(),
            *self._routes_of(AF_INET),
            Decapsulation(None, self._home_agent, EXIT, BY_DESTINATION, IPV4_DECAPSULATION_TABLE),
            OnlyRoutes(None, AF_INET6, IPV4_DECAPSULATION_TABLE),
            Rule(
                None,
                IPV4_RULE_PREFERENCE,
                IPV4_DECAPSULATION_TABLE,
                dst=f"{self._home_agent}/128",
                fwmark=IPV4_MARK,
                ip_proto=IPV4.next_header,
            ),
        ]

    def _encapsulate(self, home_addresses: Iterable[str]) -> None:
        segments = {home: self._wanted[home] for home in home_addresses}
        refused = self._routes.encapsulate_all(segments, None, EXIT, self._table)
        for home_address, reason in refused.items():
            raise LinkError(f"route {home_address} encapsulated to its care-of address: {reason}")

    def _lead_through_hairpin(self, home_addresses: Iterable[str]) -> None:
        entry = socket.if_nametoindex(ENTRY)
        gateway = parse_ipv6_address(EXIT_ADDRESS)
        self._through.put(dict.fromkeys(home_addresses, entry), METRIC, gateway)


def _encapsulating(actual: ActualState, home_address: str, care_of_address: str) -> HostRoute:
    interface, metric = actual.link(None, EXIT).number, metric_of(home_address, METRIC)
    return HostRoute(OWNER, metric, interface, encap=encapsulation(care_of_address))


def _through_hairpin(actual: ActualState, home_address: str, _: str) -> HostRoute:
    interface, metric = actual.link(None, ENTRY).number, metric_of(home_address, METRIC)
    return HostRoute(HAIRPIN_OWNER, metric, interface, EXIT_ADDRESS)
