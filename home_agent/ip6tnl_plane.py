# SPDX-License-Identifier: Apache-2.0
"""The home agent's tunnels where the kernel has ip6_tunnel: one device per care-of address, as UMIP has them.

Several home addresses behind one care-of address share a device. A handover of the only one changes the device's
remote and leaves the route alone, so that whoever follows the kernel sees one event.
"""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Mapping
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from home_agent.home_link import OWNER

PREFIX = "hoatnl"
ROUTE_METRIC = 192  # UMIP's
HOP_LIMIT = 64
IP6_TNL_F_IGN_ENCAP_LIMIT, IP6_TNL_F_MIP6_DEV = 0x1, 0x8
MAIN_TABLE = 254


class Ip6tnlPlane:
    """Tunnels by devices; the kernel's state is found again by device names and route protocol."""

    name = "ip6tnl"
    relays_errors = True

    def __init__(self, home_agent: str) -> None:
        self._home_agent = home_agent
        self._netlink = IPRoute()
        self._remotes: dict[str, str] = {}  # device → care-of address
        self._devices: dict[str, str] = {}  # home address → device

    def setup(self) -> None:
        """Takes away what an earlier run left. Raises OSError when the kernel has no ip6tnl."""
        self._clear()
        # Made and unmade at once: says now, not at the first registration, whether the kernel can.
        self._remove_device(self._make_device("::1"))

    def tunnels(self) -> Mapping[str, str]:
        """{home address: care-of address} as the kernel has them."""
        remotes = {link["index"]: self._remote(link) for link in self._links()}
        routes = self._netlink.get_routes(family=socket.AF_INET6, table=MAIN_TABLE, proto=OWNER)
        return {r.get("dst"): remotes[r.get("oif")] for r in routes if r.get("oif") in remotes}

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """Tunnels what comes for a home address; replaces. Raises OSError."""
        current = self._devices.get(home_address)
        target = next((name for name, remote in self._remotes.items() if remote == care_of_address), None)
        if target is None and current is not None and self._users(current) == 1:
            self._set_remote(current, care_of_address)
            return
        device = target or self._make_device(care_of_address)
        self._route("replace", home_address, device)
        self._devices[home_address] = device
        if current is not None and current != device and not self._users(current):
            self._remove_device(current)

    def untunnel(self, home_address: str) -> None:
        """Stops tunnelling for a home address; its device goes with the last user. Fine when there was no tunnel."""
        device = self._devices.get(home_address)
        if device is None:
            return
        self._route("del", home_address, device)
        del self._devices[home_address]
        if not self._users(device):
            self._remove_device(device)

    def device(self, home_address: str) -> str:
        """What the terminal names as the tunnel."""
        return self._devices.get(home_address, "-")

    def teardown(self) -> None:
        self._clear()

    def close(self) -> None:
        self._netlink.close()

    def _users(self, device: str) -> int:
        return list(self._devices.values()).count(device)

    def _make_device(self, care_of_address: str) -> str:
        taken = {link.get("ifname") for link in self._netlink.get_links()}
        name = next(f"{PREFIX}{n}" for n in itertools.count(1) if f"{PREFIX}{n}" not in taken)
        try:
            self._netlink.link("add", ifname=name, **self._parameters(care_of_address))
            self._netlink.link("set", index=self._index(name), state="up")
        except NetlinkError as error:
            raise OSError(error.code, f"tunnel device to {care_of_address}: {error}") from error
        self._remotes[name] = care_of_address
        return name

    def _set_remote(self, device: str, care_of_address: str) -> None:
        try:
            self._netlink.link("set", index=self._index(device), **self._parameters(care_of_address))
        except NetlinkError as error:
            raise OSError(error.code, f"changing {device}'s remote to {care_of_address}: {error}") from error
        self._remotes[device] = care_of_address

    def _remove_device(self, device: str) -> None:
        self._netlink.link("del", index=self._index(device))
        del self._remotes[device]

    def _parameters(self, care_of_address: str) -> dict[str, object]:
        return {
            "kind": "ip6tnl",
            "ip6tnl_local": self._home_agent,
            "ip6tnl_remote": care_of_address,
            "ip6tnl_proto": socket.IPPROTO_IPV6,
            "ip6tnl_ttl": HOP_LIMIT,
            "ip6tnl_flags": IP6_TNL_F_IGN_ENCAP_LIMIT | IP6_TNL_F_MIP6_DEV,
        }

    def _route(self, verb: str, home_address: str, device: str) -> None:
        try:
            self._netlink.route(
                verb,
                dst=f"{home_address}/128",
                oif=self._index(device),
                proto=OWNER,
                priority=ROUTE_METRIC,
                family=socket.AF_INET6,
            )
        except NetlinkError as error:
            if (verb, error.code) != ("del", errno.ESRCH):
                raise OSError(error.code, f"route {home_address} dev {device}: {error}") from error

    def _index(self, device: str) -> int:
        return int(self._netlink.link_lookup(ifname=device)[0])

    def _links(self) -> list[Any]:
        return [link for link in self._netlink.get_links() if str(link.get("ifname")).startswith(PREFIX)]

    @staticmethod
    def _remote(link: Any) -> str:
        return str(link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA").get_attr("IFLA_IP6TNL_REMOTE"))

    def _clear(self) -> None:
        for link in self._links():
            self._netlink.link("del", index=link["index"])
        self._remotes.clear()
        self._devices.clear()
