# SPDX-License-Identifier: Apache-2.0
"""The home agent's tunnels where the kernel has ip6_tunnel: one device per care-of address, as UMIP has them.

Several home addresses behind one care-of address share a device. A handover of the only one changes the device's
remote and leaves the route alone, so that whoever follows the kernel sees one event.
"""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from hoaflow.linux import IFF_UP, IP6_TNL_F_IGN_ENCAP_LIMIT, MAIN_TABLE
from home_agent.declared import HostRoute, HostRoutes, off
from home_agent.home_link import OWNER
from tunnel.declaration import Declared
from tunnel.links import LinkError
from tunnel.look import Look

PREFIX = "hoatnl"
PROBE = f"{PREFIX}0"
ROUTE_METRIC = 192  # UMIP's
HOP_LIMIT = 64
KERNELS_FLAGS = 0x70000
"""IP6_TNL_F_CAP_*: what the kernel notes of the two addresses."""
IP6_TNL_F_MIP6_DEV = 0x8
SETTINGS = Path("/proc/sys/net/ipv6/conf")


def usable(home_agent: str) -> str | None:
    """Return why the kernel can't make such a device, None if it can: said now, not at the first registration."""
    devices = Devices(home_agent)
    try:
        devices.put(PROBE, "::1")
    except LinkError as error:
        return str(error)
    finally:
        devices.delete(PROBE)
        devices.close()
    return None


class Devices:
    """The tunnel devices: those of `remotes`, up, with our parameters, and no others. One declared object."""

    def __init__(self, home_agent: str) -> None:
        self._home_agent = home_agent
        self._netlink = IPRoute()
        self._mtus: dict[str, int] = {}
        self.remotes: dict[str, str] = {}
        """{device: care-of address}"""

    def __str__(self) -> str:
        return "tunnel devices"

    def difference(self, look: Look) -> str | None:
        """See `Declared`."""
        links = self._links()
        wrong = [name for name, link in links.items() if not self._right(link, self.remotes.get(name))]
        return off("tunnel devices", self.remotes.keys() - links.keys(), wrong)

    def make(self) -> None:
        """See `Declared`."""
        links = self._links()
        for name in links.keys() - self.remotes.keys():
            self.delete(name)
        for name, remote in self.remotes.items():
            if name not in links or not self._right(links[name], remote):
                self.put(name, remote)

    def remove(self) -> None:
        """See `Declared`."""
        self.remotes.clear()
        self.make()

    def put(self, name: str, remote: str) -> None:
        """Make the device, or make the one that is there so. Raises LinkError."""
        parameters = self._parameters(remote)
        try:
            found = self._link(name)
            if found is not None and _data(found) is None:
                self.delete(name)  # of another kind
                found = None
            if found is None:
                self._netlink.link("add", ifname=name, kind="ip6tnl", **parameters)
            else:
                self._netlink.link("set", index=found["index"], kind="ip6tnl", **parameters)
            if found is None or not found["flags"] & IFF_UP:
                self._netlink.link("set", index=socket.if_nametoindex(name), state="up")
            (SETTINGS / name / "forwarding").write_text("1")
            self._mtus[name] = self._link(name).get("mtu")  # the kernel's, by its route to the remote
        except (NetlinkError, OSError) as error:
            raise LinkError(f"tunnel device {name} to {remote}: {error}") from error

    def delete(self, name: str) -> None:
        """Take a device away. Fine when it is not there. Raises LinkError."""
        self._mtus.pop(name, None)
        for index in self._netlink.link_lookup(ifname=name):
            try:
                self._netlink.link("del", index=index)
            except NetlinkError as error:
                raise LinkError(f"removing the tunnel device {name}: {error}") from error

    def close(self) -> None:
        """Close its socket."""
        self._netlink.close()

    def _links(self) -> dict[str, Any]:
        links = {str(link.get("ifname")): link for link in self._netlink.get_links()}
        return {name: link for name, link in links.items() if name.startswith(PREFIX)}

    def _link(self, name: str) -> Any:
        """One link, None when it is not there; the others are not read, for a handover waits for this."""
        return next((link for n in self._netlink.link_lookup(ifname=name) for link in self._netlink.get_links(n)), None)

    def _right(self, link: Any, remote: str | None) -> bool:
        data, name = _data(link), str(link.get("ifname"))
        if data is None or remote is None or not link["flags"] & IFF_UP or link.get("mtu") != self._mtus.get(name):
            return False
        says = {key: data.get_attr(f"IFLA_{key.upper()}") for key in self._parameters(remote)}
        says["ip6tnl_flags"] &= ~KERNELS_FLAGS
        if says != self._parameters(remote):
            return False
        return (SETTINGS / name / "forwarding").read_text().strip() == "1"

    def _parameters(self, remote: str) -> dict[str, object]:
        return {
            "ip6tnl_local": self._home_agent,
            "ip6tnl_remote": remote,
            "ip6tnl_proto": socket.IPPROTO_IPV6,
            "ip6tnl_ttl": HOP_LIMIT,
            "ip6tnl_flags": IP6_TNL_F_IGN_ENCAP_LIMIT | IP6_TNL_F_MIP6_DEV,
        }


class Ip6tnlPlane:
    """Tunnels by devices; the kernel's state is found again by device names and route protocol.

    What is to be is noted before the kernel is told: what it refuses is made up for when the declaration is mended.
    """

    name = "ip6tnl"
    relays_errors = True

    def __init__(self, home_agent: str, wanted: Mapping[str, str]) -> None:
        """`wanted`: {home address: care-of address}, which whoever calls `tunnel` and `untunnel` keeps."""
        self._wanted = wanted
        self._tunnels = Devices(home_agent)
        self._netlink = IPRoute()
        self._devices: dict[str, str] = {}  # home address → device

    def declaration(self) -> list[Declared]:
        """See `Plane`."""
        ours = HostRoutes(MAIN_TABLE, self._routes, lambda route: route.protocol == OWNER, self._put_routes)
        return [self._tunnels, ours]

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """See `Plane`."""
        remotes = self._tunnels.remotes
        current = self._devices.get(home_address)
        target = next((name for name, remote in remotes.items() if remote == care_of_address), None)
        if target is None and current is not None and self._users(current) == 1:
            remotes[current] = care_of_address
            self._tunnels.put(current, care_of_address)
            return
        device = target or next(f"{PREFIX}{n}" for n in itertools.count(1) if f"{PREFIX}{n}" not in remotes)
        remotes[device] = care_of_address
        self._devices[home_address] = device
        if target is None:
            self._tunnels.put(device, care_of_address)
        self._put_routes([f"{home_address}/128"])
        self._release(current)

    def untunnel(self, home_address: str) -> None:
        """See `Plane`. The device goes with its last user."""
        device = self._devices.pop(home_address, None)
        if device is None:
            return
        if self._users(device):
            self._route("del", f"{home_address}/128", device)
        self._release(device)

    def device(self, home_address: str) -> str:
        """See `Plane`."""
        return self._devices.get(home_address, "-")

    def close(self) -> None:
        """See `Plane`."""
        self._tunnels.close()
        self._netlink.close()

    def _users(self, device: str) -> int:
        return list(self._devices.values()).count(device)

    def _release(self, device: str | None) -> None:
        if device is not None and not self._users(device):
            del self._tunnels.remotes[device]
            self._tunnels.delete(device)  # its route goes with it

    def _routes(self, look: Look) -> dict[str, HostRoute]:
        return {
            f"{home}/128": HostRoute(OWNER, ROUTE_METRIC, look.link(None, device).number)
            for home, device in self._devices.items()
        }

    def _put_routes(self, prefixes: Iterable[str]) -> None:
        for prefix in prefixes:
            self._route("replace", prefix, self._devices[prefix.removesuffix("/128")])

    def _route(self, verb: str, prefix: str, device: str) -> None:
        try:
            self._netlink.route(
                verb,
                dst=prefix,
                oif=socket.if_nametoindex(device),
                proto=OWNER,
                priority=ROUTE_METRIC,
                family=socket.AF_INET6,
            )
        except (NetlinkError, OSError) as error:
            if (verb, getattr(error, "code", 0)) != ("del", errno.ESRCH):
                raise LinkError(f"route {prefix} dev {device}: {error}") from error


def _data(link: Any) -> Any:
    """What a link says of itself as an ip6tnl device; None if it is none."""
    info = link.get_attr("IFLA_LINKINFO")
    return None if info is None or info.get_attr("IFLA_INFO_KIND") != "ip6tnl" else info.get_attr("IFLA_INFO_DATA")
