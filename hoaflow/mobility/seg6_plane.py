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

What comes out of a tunnel for the home agent itself passes the hairpin, too, and so comes in once more. In a mobile
network (RFC 3963) there may be a mobile node: our sockets see its Binding Updates then, and the check of sources its
own tunnel packets, which are inside the mobile router's.

    rule 3   to HA, protocol 41, mark of these   lookup 44   table 44   HA encap seg6local End.DT6 table 45
                                                             table 45   HA dev hoaflow-out

A local mobility anchor has its routes in a table of their own instead of main, as others have.

The routes that encapsulate and decapsulate name the hairpin as their device, though their packets do not leave by it:
the kernel looks up the new packet's route. So the routes survive when an uplink or the home link goes down.
"""

import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping

from hoaflow.addresses import parse_ipv6_address
from hoaflow.linux import AF_INET, AF_INET6
from hoaflow.mobility import untracked
from hoaflow.mobility.binding_objects import OWNER, HostRoute, HostRoutes, RouteMaker, leads_into_tunnel, metric_of
from hoaflow.mobility.hairpin import ENTRY, EXIT, EXIT_ADDRESS, IPV6_HEADER, hairpin, ipv4_exit
from hoaflow.mobility.nesting import Nesting
from hoaflow.mobility.objects import LocalRule, MainRule, RestoredSetting
from hoaflow.tunnel import outer_header
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.local_decapsulation import DECAPSULATION_TABLE, LOCAL_RULE_PREFERENCE, TUNNEL_RULE_PREFERENCE
from hoaflow.tunnel.objects import NftTable
from hoaflow.tunnel.routing import Decapsulation, OnlyRoutes, Route, Rule, TunnelSource
from hoaflow.tunnel.seg6 import Seg6Routes, encapsulation
from hoaflow.tunnel.spoofing_filter import INNER_MARK, IPV4, IPV4_MARK, IPV6_MARK

HAIRPIN_TABLE = 42
HAIRPIN_OWNER = 104
"""Not OWNER: those who follow the kernel's tunnels (protocol 16) should see only the encapsulating routes."""
RULE_PREFERENCE = 6
ALL_TABLES = 0
"""Has End.DT6 look up by all rules, so that inner packets between mobile nodes take the hairpin."""
METRIC = 1024
"""The kernel's default for IPv6 routes."""
IPV4_RULE_PREFERENCE, IPV4_DECAPSULATION_TABLE = 4, 43
INNER_RULE_PREFERENCE, INNER_DECAPSULATION_TABLE, INNER_TABLE = 3, 44, 45
BY_DESTINATION = "0.0.0.0"
"""The next hop with which End.DX4 looks up the inner packet's destination."""


class Seg6Plane:
    """Tunnels by routes. Route protocols, tables and device names identify what is ours."""

    name = "seg6"
    relays_errors = False
    inner_mark: int | None = INNER_MARK

    def __init__(
        self, home_agent: str, wanted: Mapping[str, str], table: int, ipv4: bool = False, networks: bool = False
    ) -> None:
        """Open sockets. `wanted` maps home addresses to care-of addresses; callers keep it up to date.

        `table` gets the routes that encapsulate. `ipv4`: there are IPv4 home addresses, too. `networks`: there are
        mobile networks, in which there may be mobile nodes.
        """
        self._home_agent, self._wanted, self._table, self._ipv4 = home_agent, wanted, table, ipv4
        self._nesting = Nesting(wanted) if networks else None
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
            self._decapsulated(TUNNEL_RULE_PREFERENCE, DECAPSULATION_TABLE, IPV6_MARK, socket.IPPROTO_IPV6),
            *self._inner_declaration(),
            *(self.ipv4_declaration() if self._ipv4 else []),
        ]

    def ipv4_declaration(self) -> list[Declared]:
        """Return the part of the declaration for IPv4 home addresses."""
        return [
            MainRule(AF_INET),
            RestoredSetting("all.forwarding", "1", "ipv4"),
            *ipv4_exit(),
            *self._routes_of(AF_INET),
            Decapsulation(None, self._home_agent, EXIT, BY_DESTINATION, IPV4_DECAPSULATION_TABLE),
            OnlyRoutes(None, AF_INET6, IPV4_DECAPSULATION_TABLE),
            self._decapsulated(IPV4_RULE_PREFERENCE, IPV4_DECAPSULATION_TABLE, IPV4_MARK, IPV4.next_header),
        ]

    def leftovers(self, only_ipv4: bool) -> list[Declared]:
        """Return what is left of this plane, or of its part for IPv4; nothing without its own rule or device.

        Somebody else may have rules of the same preferences.
        """
        with ActualState() as actual:
            if ENTRY in actual.links(None) and not only_ipv4:
                return self.declaration()
            return [] if self._into_hairpin(AF_INET).difference(actual) else self.ipv4_declaration()

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """See `Plane`."""
        self._routes.encapsulate(home_address, care_of_address, None, EXIT, self._table)
        self._lead_through_hairpin({home_address} | self._nested_anew(home_address))

    def untunnel(self, home_address: str) -> None:
        """See `Plane`."""
        self._through.delete(home_address)
        self._routes.remove(home_address, self._table)
        self._lead_through_hairpin(self._nested_anew(home_address) - {home_address})

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
                HAIRPIN_TABLE, self._wanted, self._through_hairpin, lambda _: True, self._lead_through_hairpin, family
            ),
            self._into_hairpin(family),
        ]

    @staticmethod
    def _into_hairpin(family: int) -> Rule:
        return Rule(None, RULE_PREFERENCE, HAIRPIN_TABLE, family, iifname=EXIT, invert=True)

    def _inner_declaration(self) -> list[Declared]:
        """Return what leads inner packets for the home agent itself into the hairpin."""
        return [
            Route(None, f"{self._home_agent}/128", EXIT_ADDRESS, ENTRY, INNER_TABLE),
            OnlyRoutes(None, AF_INET6, INNER_TABLE),
            Decapsulation(None, self._home_agent, EXIT, INNER_TABLE, INNER_DECAPSULATION_TABLE),
            OnlyRoutes(None, AF_INET6, INNER_DECAPSULATION_TABLE),
            self._decapsulated(INNER_RULE_PREFERENCE, INNER_DECAPSULATION_TABLE, INNER_MARK, socket.IPPROTO_IPV6),
        ]

    def _decapsulated(self, preference: int, table: int, mark: int, protocol: int) -> Rule:
        """Return the rule that has tunnel packets decapsulated.

        By the mark of accepted pairs, so that nothing is without the check; and by protocol, as an inner packet keeps
        the mark of its tunnel packet.
        """
        return Rule(None, preference, table, dst=f"{self._home_agent}/128", fwmark=mark, ip_proto=protocol)

    def _encapsulate(self, home_addresses: Iterable[str]) -> None:
        segments = {home: self._wanted[home] for home in home_addresses}
        refused = self._routes.encapsulate_all(segments, None, EXIT, self._table)
        for home_address, reason in refused.items():
            raise LinkError(f"route {home_address} encapsulated to its care-of address: {reason}")

    def _lead_through_hairpin(self, home_addresses: Iterable[str]) -> None:
        entry = socket.if_nametoindex(ENTRY)
        gateway = parse_ipv6_address(EXIT_ADDRESS)
        by_depth: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for home_address in home_addresses:
            by_depth[self._depth(home_address)][home_address] = entry
        with ActualState() as actual:
            for depth, interfaces in by_depth.items():
                self._through.put(interfaces, METRIC, gateway, _mtu_behind(depth, actual))

    def _through_hairpin(self, actual: ActualState, home_address: str, _: str) -> HostRoute:
        interface, metric = actual.link(None, ENTRY).number, metric_of(home_address, METRIC)
        mtu = _mtu_behind(self._depth(home_address), actual)
        return HostRoute(HAIRPIN_OWNER, metric, interface, EXIT_ADDRESS, mtu=mtu)

    def _nested_anew(self, home_address: str) -> set[str]:
        return set() if self._nesting is None else self._nesting.changed(home_address)

    def _depth(self, home_address: str) -> int:
        return 0 if self._nesting is None else self._nesting.depth(home_address)


def _mtu_behind(networks: int, actual: ActualState) -> int:
    """Return the MTU of what has to fit into the tunnels of so many mobile networks, too; 0 for that of the hairpin.

    Only the first encapsulation is behind the hairpin, which sends Packet Too Big; the others lose what is too large.
    """
    return actual.link(None, ENTRY).mtu - networks * IPV6_HEADER if networks else 0


def _encapsulating(actual: ActualState, home_address: str, care_of_address: str) -> HostRoute:
    interface, metric = actual.link(None, EXIT).number, metric_of(home_address, METRIC)
    return HostRoute(OWNER, metric, interface, encap=encapsulation(care_of_address))
