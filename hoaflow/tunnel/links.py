# SPDX-License-Identifier: Apache-2.0
"""Change links, addresses, neighbours and settings of a network namespace.

A namespace is a name, a path, or None for the current one. All functions raise NamespaceError and LinkError.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool
from pyroute2.netlink.exceptions import NetlinkError

from hoaflow.linux import AF_INET, AF_INET6, IFA_F_NODAD, NUD_PERMANENT, RT_SCOPE_UNIVERSE
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.namespace import Namespace, in_namespace, namespace_path, netlink_descriptor

LINK_SCOPE = 253
DEPRECATED, FOREVER = 0x20, 0xFFFFFFFF
TENTATIVE_DEPRECATED_OR_TEMPORARY = 0x40 | DEPRECATED | 0x01
OFFLOADS = (
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "tx-checksumming",
    "rx-checksumming",
)


class LinkError(TunnelError):
    """The kernel refused a change, or an interface or a setting is missing."""


class MissingInterface(LinkError):
    """An interface that something belongs to does not exist."""


@contextmanager
def netlink(namespace: Namespace) -> Iterator[IPRoute]:
    """Open a route netlink socket in the namespace; within, the kernel's refusals become LinkErrors."""
    try:
        with IPRoute(fileno=netlink_descriptor(namespace, socket.NETLINK_ROUTE)) as ipr:
            yield ipr
    except NetlinkError as error:
        hint = " (root is needed)" if error.code == errno.EPERM else ""
        raise LinkError(f"network namespace {namespace or 'current'}: {os.strerror(error.code)}{hint}") from error


def link(namespace: Namespace, name: str) -> dict[str, Any] | None:
    """Return `{index, mac, mtu, up}` of an interface, or None if it does not exist."""
    with netlink(namespace) as ipr:
        index = _index(ipr, name)
        if index is None:
            return None
        message = ipr.get_links(index)[0]
        return {
            "index": index,
            "mac": message.get_attr("IFLA_ADDRESS"),
            "mtu": message.get_attr("IFLA_MTU"),
            "up": bool(message["flags"] & 1),
        }


def add_veth(
    namespace: Namespace, name: str, peer_namespace: Namespace, peer: str, mtu: int, mac: str, peer_mac: str
) -> None:
    """Add a veth pair across two namespaces, both ends down."""
    with netlink(namespace) as ipr, open(namespace_path(peer_namespace), "rb") as other:
        attributes: dict[str, Any] = {"ifname": peer, "net_ns_fd": other.fileno(), "mtu": mtu, "address": peer_mac}
        ipr.link("add", ifname=name, kind="veth", mtu=mtu, address=mac, peer=attributes)


def remove_link(namespace: Namespace, name: str) -> bool:
    """Remove an interface, and its peer if it is a veth; returns whether it was there."""
    with netlink(namespace) as ipr:
        index = _index(ipr, name)
        if index is None:
            return False
        ipr.link("del", index=index)
        return True


def remove_veths(namespace: Namespace) -> bool:
    """Remove all veth pairs with an end in the namespace, even renamed ones; returns whether there were any."""
    with netlink(namespace) as ipr:
        kinds = {each["index"]: each.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") for each in ipr.get_links()}
        ends = [index for index, kind in kinds.items() if kind == "veth"]
        for index in ends:
            with suppress(NetlinkError):  # it went with its other end
                ipr.link("del", index=index)
        return bool(ends)


def change(namespace: Namespace, name: str, **attributes: Any) -> None:
    """Change attributes of an interface: `mtu`, `address`, `master`, `state`."""
    with netlink(namespace) as ipr:
        ipr.link("set", index=_need(ipr, name), **attributes)


def add_address(namespace: Namespace, name: str, address: str, length: int, no_source: bool = False) -> bool:
    """Add an address without duplicate address detection; returns False if it was there.

    `no_source`: make it one that is chosen as a source last: of link scope (IPv4) or deprecated (IPv6).
    """
    with netlink(namespace) as ipr:
        index, family = _need(ipr, name), family_of(address)
        if address in _addresses(ipr, index, family):
            return False
        marked: dict[str, Any] = {"scope": LINK_SCOPE if no_source and family == AF_INET else RT_SCOPE_UNIVERSE}
        if no_source and family == AF_INET6:
            marked = {"preferred_lft": 0, "valid_lft": FOREVER}
        ipr.addr("add", index=index, address=address, prefixlen=length, family=family, flags=IFA_F_NODAD, **marked)
        return True


def remove_address(namespace: Namespace, name: str, address: str, length: int | None = None) -> None:
    """Remove an address, of any prefix length if none is given; one that is gone, or its interface, is fine."""
    family = family_of(address)
    with netlink(namespace) as ipr:
        index = _index(ipr, name)
        if index is None:
            return
        for message in ipr.get_addr(family=family, index=index):
            found = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if found == address and length in (None, message["prefixlen"]):
                ipr.addr("del", index=index, address=address, prefixlen=message["prefixlen"], family=family)


def global_addresses(namespace: Namespace, name: str | None = None, family: int = AF_INET6) -> list[str]:
    """Return the permanent addresses of global scope of a family, those of lo first, then by interface."""
    with netlink(namespace) as ipr:
        index = None if name is None else _need(ipr, name)
        return _addresses(ipr, index, family, lasting_global=True)


def add_neighbour(namespace: Namespace, dev: str, address: str, mac: str, protocol: int = 0) -> None:
    """Fix a neighbour's link-layer address. `protocol`: the number of who makes the entry, 0 to note none."""
    with netlink(namespace) as ipr:
        entry = {"family": family_of(address), "ifindex": _need(ipr, dev), "dst": address, "lladdr": mac}
        ipr.neigh("replace", **entry, state=NUD_PERMANENT, **({"protocol": protocol} if protocol else {}))


def remove_neighbour(namespace: Namespace, dev: str, address: str) -> None:
    """Remove a neighbour entry; one that is gone, or its interface, is fine."""
    with netlink(namespace) as ipr:
        index = _index(ipr, dev)
        if index is None:
            return
        try:
            ipr.neigh("del", family=family_of(address), ifindex=index, dst=address)
        except NetlinkError as error:
            if error.code != errno.ENOENT:
                raise


def sysctl(namespace: Namespace, key: str, protocol: str = "ipv6") -> str:
    """Return the value of net.PROTOCOL.conf.KEY (`all.forwarding`).

    Raises MissingInterface, or LinkError where the kernel has no IPv6.
    """
    return in_namespace(namespace, lambda: _sysctl_path(key, protocol).read_text().strip())


def set_sysctl(namespace: Namespace, key: str, value: str, protocol: str = "ipv6") -> bool:
    """Set net.PROTOCOL.conf.KEY; returns False if it had the value."""
    if sysctl(namespace, key, protocol) == value:
        return False
    in_namespace(namespace, lambda: _sysctl_path(key, protocol).write_text(value))
    return True


def family_of(address: str) -> int:
    """Return the address family of an address or prefix in text form."""
    return AF_INET6 if ":" in address else AF_INET


def offloads_on(namespace: Namespace, name: str) -> bool:
    """Tell whether any checksum or segmentation offload of an interface is on."""

    def any_on() -> bool:
        with _ethtool(name) as ethtool:
            flags = ethtool.get_offload_flags()
            return any(flags[flag] for flag in OFFLOADS)

    return in_namespace(namespace, any_on)


def offloads_off(namespace: Namespace, name: str) -> bool:
    """Turn checksum and segmentation offloads of an interface off; returns whether any was on."""

    def turn_off() -> bool:
        with _ethtool(name) as ethtool:
            flags = ethtool.get_offload_flags()
            on = [flag for flag in OFFLOADS if flags[flag]]
            for flag in on:
                ethtool.set_offload_flag(flag, 0)
            return bool(on)

    return in_namespace(namespace, turn_off)


@contextmanager
def _ethtool(name: str) -> Iterator[IoctlEthtool]:
    ethtool = None
    try:
        ethtool = IoctlEthtool(name)
        yield ethtool
    except EthtoolError as error:  # the interface may just have gone
        raise LinkError(f"the offloads of {name} can't be read or set: {error or type(error).__name__}") from error
    finally:
        if ethtool is not None:
            ethtool.close()


def setting_path(key: str, protocol: str) -> Path:
    """Return the file of net.PROTOCOL.conf.KEY, which need not exist."""
    return Path("/proc/sys/net", protocol, "conf", *key.rsplit(".", 1))


def _sysctl_path(key: str, protocol: str) -> Path:
    path = setting_path(key, protocol)
    if not path.exists():
        if not setting_path(key, "ipv4").parent.exists():
            raise MissingInterface(f"interface {key.rpartition('.')[0]} is missing")
        raise LinkError(f"net.{protocol}.conf.{key} does not exist: IPv6 is needed (is it switched off in the kernel?)")
    return path


def _index(ipr: IPRoute, name: str) -> int | None:
    found = ipr.link_lookup(ifname=name)
    return int(found[0]) if found else None


def _need(ipr: IPRoute, name: str) -> int:
    index = _index(ipr, name)
    if index is None:
        raise MissingInterface(f"interface {name} is missing")
    return index


def _addresses(ipr: IPRoute, index: int | None, family: int, lasting_global: bool = False) -> list[str]:
    found = []
    for message in ipr.get_addr(family=family):
        if index is not None and message["index"] != index:
            continue
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        if lasting_global and (message["scope"] != RT_SCOPE_UNIVERSE or flags & TENTATIVE_DEPRECATED_OR_TEMPORARY):
            continue
        # of an IPv4 address on a point-to-point link IFA_ADDRESS is the other end
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        found.append((message["index"] != 1, message["index"], address))
    return [address for _, _, address in sorted(found, key=lambda entry: entry[:2])]  # else the kernel's order
