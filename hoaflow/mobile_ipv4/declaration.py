# SPDX-License-Identifier: Apache-2.0
"""Declare everything that a home agent of Mobile IPv4 needs of its kernel."""

from hoaflow.linux import AF_INET
from hoaflow.mobile_ipv4.cache import Policy
from hoaflow.mobile_ipv4.home_link import HomeLink
from hoaflow.mobile_ipv4.tunnels import Tunnels
from hoaflow.mobility.binding_objects import ProxyEntries
from hoaflow.mobility.home_links import OwnAddress, Up
from hoaflow.mobility.objects import MainRule, RestoredSetting
from hoaflow.mobility.routes import OnLinkRoute, UnreachablePrefixes
from hoaflow.mobility.tunnel_counters import TunnelCounters
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.objects import NftTable


def declaration(
    policy: Policy, tunnels: Tunnels, home_link: HomeLink, counted: TunnelCounters | None
) -> list[Declared]:
    """Return the declared objects in the order in which they are made.

    The home link comes late, so that the rest is mended while it is down. Routes to care-of addresses, which nothing
    here can mend, come last. `counted` counts the tunnels' load, if anything does.
    """
    link = home_link.interface
    return [
        RestoredSetting("all.forwarding", "1", "ipv4"),
        MainRule(AF_INET),
        UnreachablePrefixes([str(policy.home_prefix)], AF_INET),
        *tunnels.declaration(),
        *([] if counted is None else [NftTable(None, counted.table)]),
        Up(link),
        RestoredSetting(f"{link}.forwarding", "1", "ipv4"),
        # A mobile node that is back deregisters from its home address, which still has a route into a tunnel.
        RestoredSetting(f"{link}.rp_filter", "2", "ipv4"),
        OwnAddress(policy.home_agent, policy.home_prefix.prefixlen, link),
        OnLinkRoute(str(policy.home_prefix), link),
        ProxyEntries(home_link),
        tunnels.care_of_address_routes(),
    ]
