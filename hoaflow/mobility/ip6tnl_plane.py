# SPDX-License-Identifier: Apache-2.0
"""Tunnel with ip6tnl devices, one for each care-of address, as UMIP does.

Home addresses behind the same care-of address share a device. If a device has one user, a handover changes its remote
address and keeps the route, so that those who follow the kernel see one event.

    rule 5    to HA, protocol 41, mark of accepted pairs     lookup local    (delivered to its tunnel device)
    rule 10   not (to HA, protocol 41)                       lookup local

The kernel's own rule for table local is removed, so a tunnel packet without the mark reaches no device: without the
check against spoofing, which sets the mark, nothing leaves a tunnel.
"""

import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import IPRoute, NetlinkError

from hoaflow.addresses import format_address
from hoaflow.linux import AF_INET6, IFF_UP, IP6_TNL_F_IGN_ENCAP_LIMIT, LOCAL_TABLE
from hoaflow.mobility.binding_objects import (
    DEVICE_PREFIX,
    OWNER,
    HostRoute,
    HostRoutes,
    RouteMaker,
    leads_into_tunnel,
    paused,
    summary,
)
from hoaflow.mobility.objects import LocalRule
from hoaflow.mobility.shared_devices import SharedDevices
from hoaflow.tunnel.actual_state import (
    IFINFO,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MTU,
    ActualState,
)
from hoaflow.tunnel.declaration import Declared, Steps, at_once
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.local_decapsulation import LOCAL_RULE_PREFERENCE, TUNNEL_RULE_PREFERENCE
from hoaflow.tunnel.routing import Rule
from hoaflow.tunnel.rtnetlink import attributes
from hoaflow.tunnel.spoofing_filter import IPV6_MARK

KIND = "ip6tnl"
PROBE = f"{DEVICE_PREFIX}0"
ROUTE_METRIC = 192  # UMIP's
HOP_LIMIT = 64
IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE, IFLA_IPTUN_TTL, IFLA_IPTUN_FLAGS, IFLA_IPTUN_PROTO = 2, 3, 4, 8, 9
KERNELS_FLAGS = 0x70000
"""IP6_TNL_F_CAP_*, which the kernel derives from the two addresses."""
IP6_TNL_F_MIP6_DEV = 0x8
SETTINGS = Path("/proc/sys/net/ipv6/conf")
DEVICE_SETTINGS = {"disable_ipv6": (26, 0), "forwarding": (0, 1)}
"""By name: its index in the kernel's list of a device's settings (DEVCONF_* in linux/ipv6.h), and its value."""
IFLA_AF_SPEC, IFLA_INET6_CONF = 26, 2


def usable(home_agent: str) -> str | None:
    """Return why the kernel can't make such a device; None if it can."""
    devices = Devices(home_agent, {})
    try:
        devices.put(PROBE, "::1")
    except LinkError as error:
        return str(error)
    finally:
        devices.delete(PROBE)
        devices.close()
    return None


class Devices:
    """The tunnel devices: those of `remotes`, up and with our parameters, and no others. One declared object."""

    def __init__(self, home_agent: str, remotes: Mapping[str, str]) -> None:
        """Open a socket. `remotes` maps devices to care-of addresses; callers keep it up to date."""
        self._home_agent, self._remotes = home_agent, remotes
        self._netlink = IPRoute()
        self._mtus: dict[str, int] = {}

    def __str__(self) -> str:
        return "tunnel devices"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        return at_once(self.slices(actual))

    def slices(self, actual: ActualState) -> Steps[str | None]:
        """See `Sliced`."""
        read, remotes, mtus = actual.listed_links(None), dict(self._remotes), dict(self._mtus)
        found, wrong = set(), []
        for message in paused(read):
            if message is None:
                yield
            elif (device := _device(message)) is not None:
                found.add(device.name)
                if not self._right(device, remotes.get(device.name), mtus.get(device.name)):
                    wrong.append(device.name)
        return summary("tunnel devices", remotes.keys() - found, wrong)

    def make(self) -> None:
        """See `Declared`."""
        devices = self._found()
        for name in devices.keys() - self._remotes.keys():
            self.delete(name)
        for name, remote in self._remotes.items():
            if name not in devices or not self._right(devices[name], remote, self._mtus.get(name)):
                self.put(name, remote)

    def remove(self) -> None:
        """See `Declared`."""
        for name in self._found():
            self.delete(name)

    def _found(self) -> dict[str, "Device"]:
        with ActualState() as actual:
            listed = map(_device, actual.listed_links(None))
            return {each.name: each for each in listed if each is not None}

    def put(self, name: str, remote: str) -> None:
        """Create the device, or change the existing one. Raises LinkError."""
        parameters = self._parameters(remote)
        try:
            found = self._link(name)
            if found is not None and _kind(found) != KIND:
                self.delete(name)
                found = None
            if found is None:
                self._netlink.link("add", ifname=name, kind=KIND, **parameters)
            else:
                self._netlink.link("set", index=found["index"], kind=KIND, **parameters)
            if found is None or not found["flags"] & IFF_UP:
                self._netlink.link("set", index=socket.if_nametoindex(name), state="up")
            for setting, (_, value) in DEVICE_SETTINGS.items():
                (SETTINGS / name / setting).write_text(str(value))
            self._mtus[name] = self._link(name).get("mtu")  # chosen by the kernel, by its route to the remote
        except (NetlinkError, OSError) as error:
            raise LinkError(f"tunnel device {name} to {remote}: {error}") from error

    def delete(self, name: str) -> None:
        """Remove a device; fine if there is none. Raises LinkError."""
        self._mtus.pop(name, None)
        for index in self._netlink.link_lookup(ifname=name):
            try:
                self._netlink.link("del", index=index)
            except NetlinkError as error:
                raise LinkError(f"removing the tunnel device {name}: {error}") from error

    def close(self) -> None:
        """Close its socket."""
        self._netlink.close()

    def _link(self, name: str) -> Any:
        """Return one link, None if there is none, without reading the others: handovers wait for this."""
        return next((link for n in self._netlink.link_lookup(ifname=name) for link in self._netlink.get_links(n)), None)

    def _right(self, device: "Device", remote: str | None, mtu: int | None) -> bool:
        if remote is None or not device.up or device.mtu != mtu or device.parameters != self._parameters(remote):
            return False
        return device.settings == {name: value for name, (_, value) in DEVICE_SETTINGS.items()}

    def _parameters(self, remote: str) -> dict[str, object]:
        return {
            "ip6tnl_local": self._home_agent,
            "ip6tnl_remote": remote,
            "ip6tnl_proto": socket.IPPROTO_IPV6,
            "ip6tnl_ttl": HOP_LIMIT,
            "ip6tnl_flags": IP6_TNL_F_IGN_ENCAP_LIMIT | IP6_TNL_F_MIP6_DEV,
        }


class Ip6tnlPlane:
    """Tunnels by devices. Device names and the route protocol identify what is ours.

    Changes are noted before the kernel is asked: if it refuses one, mending the declaration makes up for it.
    """

    name = "ip6tnl"
    relays_errors = True
    inner_mark: int | None = None

    def __init__(self, home_agent: str, wanted: Mapping[str, str], table: int) -> None:
        """Open sockets. `wanted` maps home addresses to care-of addresses; callers keep it up to date.

        `table` gets the routes to the devices.
        """
        self._home_agent, self._wanted, self._table = home_agent, wanted, table
        self._shared = SharedDevices(DEVICE_PREFIX)
        self._tunnels = Devices(home_agent, self._shared.remotes)
        self._routes = RouteMaker(table, OWNER)

    def declaration(self) -> list[Declared]:
        """See `Plane`."""
        marked = Rule(
            None,
            TUNNEL_RULE_PREFERENCE,
            LOCAL_TABLE,
            dst=f"{self._home_agent}/128",
            fwmark=IPV6_MARK,
            ip_proto=socket.IPPROTO_IPV6,
        )
        return [
            self._tunnels,
            HostRoutes(self._table, self._shared.devices, _leading_to, leads_into_tunnel, self._put_routes),
            marked,
            LocalRule(LOCAL_RULE_PREFERENCE, not_tunnelled_to=self._home_agent),
        ]

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """See `Plane`."""
        assignment = self._shared.assign(home_address, care_of_address)
        try:
            if assignment.points_anew:
                self._tunnels.put(assignment.device, care_of_address)
            if assignment.leads_anew:
                self._put_routes([home_address])
        finally:
            if assignment.unused is not None:
                self._tunnels.delete(assignment.unused)

    def untunnel(self, home_address: str) -> None:
        """See `Plane`. A device is removed with its last user, and with it its route."""
        if home_address not in self._shared.devices:
            return
        unused = self._shared.release(home_address)
        if unused is None:
            self._routes.delete(home_address)
        else:
            self._tunnels.delete(unused)

    def device(self, home_address: str) -> str:
        """See `Plane`."""
        return self._shared.devices.get(home_address, "-")

    @property
    def ports(self) -> frozenset[int]:
        """See `Plane`."""
        return frozenset((self._routes.port,))

    def close(self) -> None:
        """See `Plane`."""
        self._tunnels.close()
        self._routes.close()

    def _put_routes(self, home_addresses: Iterable[str]) -> None:
        interfaces = {home: socket.if_nametoindex(self._shared.devices[home]) for home in home_addresses}
        self._routes.put(interfaces, ROUTE_METRIC)


class Device(NamedTuple):
    """A tunnel device as the kernel lists it.

    `parameters` is None if the device is of another kind. `settings` holds those of DEVICE_SETTINGS; it is empty if the
    device has no IPv6.
    """

    name: str
    up: bool
    mtu: int
    parameters: dict[str, object] | None
    settings: dict[str, int]


def _device(message: bytes) -> Device | None:
    """Return the device of a message; None if its name is not one of ours."""
    facts = dict(attributes(message[IFINFO.size :]))
    name = facts[IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
    if not name.startswith(DEVICE_PREFIX):
        return None
    info = dict(attributes(facts.get(IFLA_LINKINFO, b"")))
    parameters: dict[str, object] | None = None
    if info.get(IFLA_INFO_KIND, b"").rstrip(b"\0") == KIND.encode():
        data = dict(attributes(info[IFLA_INFO_DATA]))
        parameters = {
            "ip6tnl_local": format_address(data[IFLA_IPTUN_LOCAL]),
            "ip6tnl_remote": format_address(data[IFLA_IPTUN_REMOTE]),
            "ip6tnl_proto": data[IFLA_IPTUN_PROTO][0],
            "ip6tnl_ttl": data[IFLA_IPTUN_TTL][0],
            "ip6tnl_flags": struct.unpack("=I", data[IFLA_IPTUN_FLAGS])[0] & ~KERNELS_FLAGS,
        }
    flags = IFINFO.unpack_from(message)[3]
    # Reading them from /proc would take two files for each of up to 20,000 devices.
    ipv6 = dict(attributes(dict(attributes(facts.get(IFLA_AF_SPEC, b""))).get(AF_INET6, b"")))
    values = ipv6.get(IFLA_INET6_CONF)
    settings = (
        {s: struct.unpack_from("=i", values, 4 * n)[0] for s, (n, _) in DEVICE_SETTINGS.items()} if values else {}
    )
    return Device(name, bool(flags & IFF_UP), struct.unpack("=I", facts[IFLA_MTU])[0], parameters, settings)


def _leading_to(_: ActualState, _home_address: str, device: str) -> HostRoute:
    # Looked up now, as the device may be newer than what has been read.
    try:
        return HostRoute(OWNER, ROUTE_METRIC, socket.if_nametoindex(device))
    except OSError:
        return HostRoute(OWNER, ROUTE_METRIC, 0)  # it is missing, which `Devices` reports


def _kind(link: Any) -> str | None:
    info = link.get_attr("IFLA_LINKINFO")
    return None if info is None else info.get_attr("IFLA_INFO_KIND")
