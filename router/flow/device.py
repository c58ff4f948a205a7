# SPDX-License-Identifier: Apache-2.0
"""The collect-metadata ip6tnl device in the current network namespace, and its counters."""

from __future__ import annotations

import errno
from typing import NamedTuple

from pyroute2.netlink.exceptions import NetlinkError

from hoaflow.linux import AF_INET6, IFA_F_NODAD
from router.errors import RouterError
from router.flow.kernel import add_tunnel
from router.flow.record import DEVICE
from tunnel import links


class Device(NamedTuple):
    """The device as the kernel has it. Counters in packets."""

    up: bool
    transmitted: int
    received: int
    dropped: int


def find() -> Device | None:
    """The device, None if it is not there. Raises RouterError when something else has its name."""
    with links.netlink(None) as ipr:
        index = next(iter(ipr.link_lookup(ifname=DEVICE)), None)
        if index is None:
            return None
        message = ipr.get_links(index)[0]
        kind = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
        collects = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_IP6TNL_COLLECT_METADATA")
        if kind != "ip6tnl" or collects is None:
            raise RouterError(f"interface {DEVICE} exists but is no collect-metadata ip6tnl: rename or remove it")
        counters = message.get_attr("IFLA_STATS64")
        return Device(
            bool(message["flags"] & 1),
            counters["tx_packets"],
            counters["rx_packets"],
            counters["tx_dropped"] + counters["tx_errors"] + counters["rx_dropped"] + counters["rx_errors"],
        )


def add() -> None:
    """Make it. Raises RouterError when the kernel has another such device: it has room for one per namespace."""
    with links.netlink(None) as ipr:
        try:
            add_tunnel(ipr, DEVICE)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
            raise RouterError(
                "the kernel has a collect-metadata ip6tnl device already (`ip -d link show type ip6tnl`), and room "
                "for one only: remove it, or use --backend route"
            ) from error


def add_address(address: str) -> bool:
    """Give it an address that is usable at once and never chosen as a source (deprecated, RFC 6724 rule 3)."""
    with links.netlink(None) as ipr:
        index = ipr.link_lookup(ifname=DEVICE)[0]
        for message in ipr.get_addr(family=AF_INET6, index=index):
            if message.get_attr("IFA_ADDRESS") == address:
                return False
        ipr.addr(
            "add",
            index=index,
            address=address,
            prefixlen=128,
            family=AF_INET6,
            flags=IFA_F_NODAD,
            preferred_lft=0,
            valid_lft=0xFFFFFFFF,
        )
        return True
