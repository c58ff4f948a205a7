# SPDX-License-Identifier: Apache-2.0
"""Declare everything that a home agent needs of its kernel."""

from collections.abc import Callable

from hoaflow.home_agent.cache import Policy
from hoaflow.home_agent.discovery import Discovery
from hoaflow.home_agent.home_link import AnnouncedMac, Bound, LinkLocalAddress
from hoaflow.home_agent.parts import Parts
from hoaflow.mobility.binding_objects import ProxyEntries
from hoaflow.mobility.home_links import OwnAddress, Up
from hoaflow.mobility.objects import MainRule, RestoredSetting
from hoaflow.mobility.packet_io import Guard, home_address_option_for, mobility_header_for
from hoaflow.mobility.routes import LINK_LOCAL, OnLinkRoute, UnreachablePrefixes
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.nft_table import Table
from hoaflow.tunnel.objects import NftTable

GUARD_TABLE = "hoaflow_ha"


def declaration(
    policy: Policy, parts: Parts, rebind: Callable[[], None], discovery: Discovery | None = None
) -> list[Declared]:
    """Return the declared objects in the order in which they are made.

    The home link comes late, so that the rest is mended while it is down. Routes to care-of addresses, which nothing
    here can mend, come last.

    `rebind` moves our sockets to a new home link. `discovery`: has the home agents' anycast address, where this home
    agent advertises itself.
    """
    tunnels, home_link, gate = parts.tunnels, parts.home_link, parts.gate
    guard = Guard(GUARD_TABLE).ruleset(
        [mobility_header_for(policy.home_agent), home_address_option_for(policy.home_agent)]
    )
    return [
        *([] if gate is None else [NftTable(None, gate.table)]),
        RestoredSetting("all.forwarding", "1"),
        MainRule(),
        UnreachablePrefixes([str(policy.home_prefix), *(prefix for prefix, _ in policy.mobile_networks)]),
        *tunnels.declaration(),
        NftTable(None, Table("ip6", GUARD_TABLE, guard, "the guard of Mobile IPv6 packets")),
        *([] if parts.counters is None else [NftTable(None, parts.counters.table)]),
        Up(home_link.interface),
        Bound(home_link, rebind),
        RestoredSetting(f"{home_link.interface}.disable_ipv6", "0"),
        RestoredSetting(f"{home_link.interface}.forwarding", "1"),
        # Not of the home link alone: then the kernel forwards solicitations to the home address itself, by which
        # neighbours confirm that they still reach it (ip6_forward in Linux's net/ipv6/ip6_output.c).
        RestoredSetting("all.proxy_ndp", "1"),
        LinkLocalAddress(home_link.interface),
        OwnAddress(policy.home_agent, policy.home_prefix.prefixlen, home_link.interface, owned=gate is not None),
        OnLinkRoute(LINK_LOCAL, home_link.interface),
        OnLinkRoute(str(policy.home_prefix), home_link.interface),
        *([] if discovery is None else [discovery]),
        parts.networks,
        ProxyEntries(home_link),
        parts.undefended,
        AnnouncedMac(home_link),
        *([] if parts.ipv4 is None else parts.ipv4.declaration()),
        *tunnels.links(),
    ]
