# SPDX-License-Identifier: Apache-2.0
"""Open what a home agent works with in its kernel, for `declaration` to declare; nothing is made yet."""

from contextlib import ExitStack
from dataclasses import dataclass

from hoaflow.home_agent.draining import Undefended
from hoaflow.home_agent.home_link import HomeLink
from hoaflow.home_agent.ipv4_home_link import Ipv4HomeLink
from hoaflow.home_agent.mobile_networks import MobileNetworks
from hoaflow.home_agent.pods.serving import Gate, remove_gate
from hoaflow.home_agent.prefix_table import NO_MOBILE_NETWORKS
from hoaflow.home_agent.settings import Settings
from hoaflow.mobility.tunnel_counters import TunnelCounters
from hoaflow.mobility.tunnels import Tunnels


@dataclass(frozen=True, slots=True)
class Parts:
    """What the kernel does for a home agent.

    `undefended`: mobile nodes' addresses, which are left to other home agents while this one drains. `gate`: that of a
    pod that owns the address, where there are several pods. `counters` count the tunnels' load, if anything does.
    `ipv4`: the home link of IPv4, if it has any.
    """

    tunnels: Tunnels
    home_link: HomeLink
    networks: MobileNetworks
    undefended: Undefended
    gate: Gate | None
    counters: TunnelCounters | None
    ipv4: Ipv4HomeLink | None


def open_parts(settings: Settings, undo: ExitStack, to_remove: bool = False) -> Parts:
    """Open their sockets, which `undo` closes. Raises one of KERNEL_ERRORS.

    `to_remove`: they are only removed, for which the home link need not be there.
    """
    policy, link = settings.policy, settings.home_link
    address = policy.home_agent
    mobile_networks = policy.mobile_networks is not NO_MOBILE_NETWORKS
    tunnels = Tunnels(address, ipv4=settings.ipv4 is not None, networks=mobile_networks)
    undo.callback(tunnels.close)
    home_link = HomeLink(link, address)
    undo.callback(home_link.close)
    ipv4 = gate = None
    if settings.ipv4 is not None:
        ipv4 = Ipv4HomeLink(link, settings.ipv4, tunnels)
        undo.callback(ipv4.close)
    if settings.shared is None:
        remove_gate()
    else:
        gate = Gate(link, () if to_remove else home_link.own_addresses())
    return Parts(
        tunnels,
        home_link,
        MobileNetworks(policy.mobile_networks, link, tunnels),
        Undefended(home_link, address),
        gate,
        TunnelCounters(address) if settings.metrics is not None else None,
        ipv4,
    )
