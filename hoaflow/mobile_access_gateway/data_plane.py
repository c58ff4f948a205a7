# SPDX-License-Identifier: Apache-2.0
"""Tunnel between mobile nodes and their anchor, by seg6 routes on any kernel: nobody follows an access gateway's.

    rule 5   to Proxy-CoA, protocol 41, from the anchor  lookup 41    decapsulated (End.DT6)
    rule 6   out of the tunnel                           lookup 252   PREFIX dev ACCESS-LINK      served
    rule 7   out of the tunnel                           lookup 253   default dev hoaflow-hold    held
    rule 10                                              lookup local
    rule 11  to the anchor, protocol 41                  lookup main
    rule 12  from hoaflow-in                             lookup 201   default encap seg6 ... segs ANCHOR
    rule 20  from an access link                         lookup 200   default dev hoaflow-out     (hop limit, MTU)

So a packet for a mobile node whose link is down, or that is not registered, is held and never leaves by another way:
back to the anchor it would come again. The mark of accepted tunnel packets, which the packets inside keep, tells what
has come out of the tunnel. Packets between mobile nodes of one gateway go by their anchor (RFC 5213, section 6.10.3).
"""

import socket
from collections.abc import Iterable

from hoaflow.addresses import Prefix, parse_prefix
from hoaflow.linux import AF_INET6, MAIN_TABLE
from hoaflow.mobile_access_gateway.checksums import CompleteChecksums
from hoaflow.mobility import untracked
from hoaflow.mobility.binding_objects import OWNER, HostRoute, HostRoutes, RouteMaker
from hoaflow.mobility.hairpin import ENTRY, EXIT, EXIT_ADDRESS, USUAL_MTU, hairpin
from hoaflow.mobility.objects import LocalRule, RestoredSetting
from hoaflow.mobility.set_elements import SetElements, counters, source_prefix, source_shown
from hoaflow.tunnel import outer_header
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.local_decapsulation import DECAPSULATION_TABLE, LOCAL_RULE_PREFERENCE, TUNNEL_RULE_PREFERENCE
from hoaflow.tunnel.nfnetlink import Count
from hoaflow.tunnel.nft_table import Table
from hoaflow.tunnel.objects import FixedNeighbour, Free, IpAddress, Mac, NftTable, Setting, Up, Veth
from hoaflow.tunnel.routing import Decapsulation, OnlyRoutes, Route, Rule, TunnelSource
from hoaflow.tunnel.seg6 import Seg6Routes, encapsulation
from hoaflow.tunnel.spoofing_filter import IPV6_MARK

FROM_NODES_TABLE, TO_ANCHOR_TABLE, PREFIX_TABLE, HOLD_TABLE = 200, 201, 252, 253
SERVED_RULE, HELD_RULE, TUNNELLED_RULE, TO_ANCHOR_RULE, ACCESS_RULE = 6, 7, 11, 12, 20
ALL_TABLES = 0
"""Has End.DT6 look up by all rules."""
METRIC, DEFAULT_METRIC = 192, 1024
HOLD, HELD = "hoaflow-hold", "hoaflow-held"
HOLD_MAC, HELD_MAC = "02:68:6f:61:00:03", "02:68:6f:61:00:04"
HELD_ADDRESS = "fe80::4"
FAMILY, TABLE, ATTACHED = "ip6", "hoaflow_mag", "attached"
DEFAULT = "::/0"

# A mobile node may send from its own prefixes only (RFC 5213, section 9), and only the anchor into the tunnel. The
# former is checked first: a mobile node may not send from the anchor's address either.
RULESET = """
table ip6 hoaflow_mag {{
    counter accepted {{ }}
    counter dropped {{ }}
    counter spoofed {{ }}
    set attached {{ typeof ether saddr . ip6 saddr; flags interval; }}
    chain tunnel {{ }}
    chain access {{ }}
    chain prerouting {{ type filter hook prerouting priority raw; policy accept; }}
}}
flush chain ip6 hoaflow_mag tunnel
flush chain ip6 hoaflow_mag access
flush chain ip6 hoaflow_mag prerouting
table ip6 hoaflow_mag {{
    chain tunnel {{
        frag more-fragments 1 counter name dropped drop
        ip6 saddr {anchor} meta mark set {mark} counter name accepted accept
        counter name dropped drop
    }}
    chain access {{
        ip6 saddr fe80::/10 return
        ip6 saddr :: return
        ether saddr . ip6 saddr @attached return
        counter name spoofed drop
    }}
    chain prerouting {{
        iifname {{ {links} }} jump access
        ip6 daddr {address} meta l4proto 41 jump tunnel
    }}
}}
"""


class DataPlane:
    """The kernel's part of an access gateway. `serve` and `hold` are idempotent and raise one of KERNEL_ERRORS."""

    def __init__(self, address: str, anchor: str, links: tuple[str, ...], link_local: str) -> None:
        """Open sockets. `address` is the Proxy-CoA, `links` are access links, on which the gateway has `link_local`."""
        self._address, self._anchor, self._links, self._link_local = address, anchor, links, link_local
        self._served: dict[str, str] = {}  # prefix → interface
        self._sources = SetElements(
            FAMILY, TABLE, ATTACHED, "accepted sources of mobile nodes", source_prefix, source_shown
        )
        self._routes = RouteMaker(PREFIX_TABLE, OWNER)

    def declaration(self) -> list[Declared]:
        """Return what the kernel must have, in the order in which it is made."""
        text = RULESET.format(
            anchor=self._anchor,
            address=self._address,
            mark=IPV6_MARK,
            links=", ".join(f'"{link}"' for link in self._links),
        )
        table = Table(FAMILY, TABLE, text, "the filter of mobile nodes' and the anchor's packets", terse=True)
        return [
            NftTable(None, table),
            self._sources,
            *hairpin(),
            RestoredSetting(f"{EXIT}.forwarding", "1"),
            *self._hold_link(),
            TunnelSource(None, self._address),
            NftTable(None, outer_header.table(self._address)),
            NftTable(None, untracked.table(self._address)),
            HostRoutes(PREFIX_TABLE, self._served, _leading_to, lambda _: True, self._put_routes),
            Route(None, DEFAULT, HELD_ADDRESS, HOLD, HOLD_TABLE),
            Route(None, DEFAULT, EXIT_ADDRESS, ENTRY, FROM_NODES_TABLE),
            HostRoutes(TO_ANCHOR_TABLE, {DEFAULT: self._anchor}, _encapsulating, lambda _: True, self._encapsulate),
            Decapsulation(None, self._address, EXIT, ALL_TABLES, DECAPSULATION_TABLE),
            OnlyRoutes(None, AF_INET6, DECAPSULATION_TABLE),
            Rule(None, SERVED_RULE, PREFIX_TABLE, fwmark=IPV6_MARK),
            Rule(None, HELD_RULE, HOLD_TABLE, fwmark=IPV6_MARK),
            LocalRule(LOCAL_RULE_PREFERENCE),
            Rule(None, TUNNELLED_RULE, MAIN_TABLE, dst=f"{self._anchor}/128", ip_proto=socket.IPPROTO_IPV6),
            Rule(None, TO_ANCHOR_RULE, TO_ANCHOR_TABLE, iifname=EXIT),
            # By the mark of what the anchor has sent, so that nothing is decapsulated without the check.
            Rule(
                None,
                TUNNEL_RULE_PREFERENCE,
                DECAPSULATION_TABLE,
                dst=f"{self._address}/128",
                fwmark=IPV6_MARK,
                ip_proto=socket.IPPROTO_IPV6,
            ),
            *(fact for number, link in enumerate(self._links) for fact in self._access_link(number, link)),
        ]

    def serve(self, prefix: str, interface: str, mac: bytes) -> None:
        """Route a prefix to a link instead of any former one, and accept it as source from this MAC address there."""
        self._served[prefix] = interface
        self._put_routes([prefix])
        self._sources.put(prefix, mac)

    def hold(self, prefix: str) -> None:
        """Hold packets for a prefix; fine if they are held already."""
        if self._served.pop(prefix, None) is not None:
            self._routes.delete(prefix)
        self._sources.drop(prefix)

    def counters(self) -> dict[str, Count]:
        """Return counters by name: `accepted` and `dropped` tunnel packets, `spoofed` ones of mobile nodes."""
        return counters(FAMILY, TABLE)

    @property
    def ports(self) -> frozenset[int]:
        """Netlink ports over which `serve` and `hold` make changes."""
        return frozenset((self._routes.port, self._sources.port))

    def close(self) -> None:
        """Close its sockets."""
        self._routes.close()
        self._sources.close()

    @staticmethod
    def _hold_link() -> list[Declared]:
        return [
            Veth(None, HOLD, HOLD_MAC, None, HELD, HELD_MAC, USUAL_MTU),
            Mac(None, HOLD, HOLD_MAC),
            Mac(None, HELD, HELD_MAC),
            Free(None, HOLD),
            Free(None, HELD),
            CompleteChecksums(HOLD),
            Setting(None, "ipv6", f"{HOLD}.disable_ipv6", "0"),
            Setting(None, "ipv6", f"{HELD}.disable_ipv6", "1"),  # only our packet socket reads there
            Up(None, HOLD),
            Up(None, HELD),
            FixedNeighbour(None, HOLD, HELD_ADDRESS, HELD_MAC),
        ]

    def _access_link(self, number: int, link: str) -> list[Declared]:
        return [
            RestoredSetting(f"{link}.disable_ipv6", "0"),
            RestoredSetting(f"{link}.forwarding", "1"),
            # So that packets are held as soon as a link has no carrier.
            RestoredSetting(f"{link}.ignore_routes_with_linkdown", "1"),
            IpAddress(None, link, self._link_local, 64),
            Rule(None, ACCESS_RULE + number, FROM_NODES_TABLE, iifname=link),
        ]

    def _put_routes(self, prefixes: Iterable[str]) -> None:
        self._routes.put({each: socket.if_nametoindex(self._served[each]) for each in prefixes}, METRIC)

    def _encapsulate(self, prefixes: Iterable[str]) -> None:
        with Seg6Routes(protocol=OWNER) as routes:
            refused = routes.encapsulate_all(dict.fromkeys(prefixes, self._anchor), None, EXIT, TO_ANCHOR_TABLE)
        for prefix, reason in refused.items():
            raise LinkError(f"route {prefix} encapsulated to {self._anchor}: {reason}")


def _leading_to(actual: ActualState, _prefix: str, interface: str) -> HostRoute:
    return HostRoute(OWNER, METRIC, actual.link(None, interface).number)


def _encapsulating(actual: ActualState, _prefix: str, anchor: str) -> HostRoute:
    return HostRoute(OWNER, DEFAULT_METRIC, actual.link(None, EXIT).number, encap=encapsulation(anchor))


def first_octets(prefix: str) -> bytes:
    """Return the first 64 bits of a home network prefix, by which packets for it are told."""
    packed: Prefix = parse_prefix(prefix)
    return packed.packed[:8]
