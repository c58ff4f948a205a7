# SPDX-License-Identifier: Apache-2.0
"""Find the MAC addresses of the router's kernel, which tell the frames that are for the router."""

from collections.abc import Collection, Iterable
from typing import Any

from hoaflow.linux import IFF_UP
from hoaflow.tunnel.links import LinkError, netlink
from hoaflow.tunnel.namespace import Namespace

ETHERNET = 1  # ARPHRD_ETHER
# What arrives at the ports of these goes to the switch, not to the kernel.
SWITCHES = frozenset({"openvswitch", "bridge"})


def kernel_macs(
    endpoint: Namespace = None, way_out: str | None = None, left_out: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the MAC addresses of all interfaces that are up in the router's kernel, sorted, each once.

    The router's kernel is in the network namespace at the other end of the veth `way_out` of the namespace `endpoint`;
    without these it is in the current one, where interfaces named `left_out` do not count. Raises LinkError,
    NamespaceError.
    """
    with netlink(endpoint) as ipr:
        if way_out is None:
            return _macs((link for link in ipr.get_links() if link.get_attr("IFLA_IFNAME") not in left_out), None)
        found = ipr.link_lookup(ifname=way_out)
        if not found:
            raise LinkError(f"interface {way_out} of network namespace {endpoint} is missing")
        (link,) = ipr.get_links(found[0])
        other_end, there = link.get_attr("IFLA_LINK"), link.get_attr("IFLA_LINK_NETNSID")
        # dump_filter=None: pyroute2 would else look for the number in the answers instead of asking there.
        return _macs(ipr.link("dump", dump_filter=None, if_netnsid=there), other_end)


def _macs(links: Iterable[Any], other_end: int | None) -> tuple[str, ...]:
    by_index = {link["index"]: link for link in links}
    kinds = {index: link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") for index, link in by_index.items()}
    found = {
        link.get_attr("IFLA_ADDRESS")
        for index, link in by_index.items()
        if link["ifi_type"] == ETHERNET
        and link["flags"] & IFF_UP
        and kinds.get(link.get_attr("IFLA_MASTER")) not in SWITCHES
        and index != other_end
    }
    return tuple(sorted(found))
