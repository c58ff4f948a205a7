# SPDX-License-Identifier: Apache-2.0
"""Netlink messages of tunnels and routes, made or recorded, as the bridge gets them."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.rtmsg import rtmsg

_LINK = re.compile(
    r"(?P<gone>Deleted )?(?P<index>\d+): (?P<dev>ip6tnl\d+|mit\w+)@\S+: .*?"
    r"(?:ip6tnl ip6ip6|ipip ipip) remote (?P<remote>\S+) local (?P<local>\S+)",
    re.S,
)


_ROUTE = re.compile(
    r"(?P<gone>Deleted )?unicast (?P<dst>\S+)(?: from (?P<src>\S+))? dev (?P<dev>\S+) table (?P<table>\S+)"
    r" proto (?P<proto>\S+) scope (?:global metric (?P<metric>\d+)|(?<=proto boot scope )link)"
)


_TABLES = {"main": 254, "local": 255, "105": 105, "200": 200, "252": 252}
_PROTOCOLS = {"dhcp": 16, "boot": 3, "kernel": 2}


def encoded(message: Any, kind: int) -> Any:
    """`message` as it comes from the kernel: encoded, then decoded by pyroute2."""
    message["header"]["type"] = kind
    message.encode()
    (decoded,) = MarshalRtnl().parse(bytes(message.data))
    return decoded


def link_message(index: int, local: str, remote: str, gone: bool) -> Any:
    """Return the kernel's message of an ip6tnl device, or with IPv4 addresses of an ipip device."""
    kind, name = ("ip6tnl", "IP6TNL") if ":" in local else ("ipip", "IPIP")
    data = {"attrs": [(f"IFLA_{name}_LOCAL", local), (f"IFLA_{name}_REMOTE", remote)]}
    info = {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", data)]}
    message = ifinfmsg()
    message["family"], message["index"] = 0, index
    message["attrs"] = [("IFLA_IFNAME", "ip6tnl1"), ("IFLA_LINKINFO", info)]
    return encoded(message, 17 if gone else 16)


def route_message(dst: str, table: int, proto: int, metric: int, oif: int, src: str | None, gone: bool) -> Any:
    """Return the kernel's message of a route."""
    destination, _, length = ("::/0" if dst == "default" else dst).partition("/")
    message = rtmsg()
    family, longest = (socket.AF_INET6, 128) if ":" in destination else (socket.AF_INET, 32)
    message["family"], message["dst_len"], message["src_len"] = family, int(length or longest), 128 if src else 0
    message["table"], message["proto"], message["type"] = table, proto, 1
    attrs: list[tuple[str, object]] = [("RTA_DST", destination), ("RTA_TABLE", table), ("RTA_PRIORITY", metric)]
    if src:
        attrs.append(("RTA_SRC", src))
    message["attrs"] = [*attrs, ("RTA_OIF", oif)]
    return encoded(message, 25 if gone else 24)


def recorded(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the tunnel and route events of a recorded run of `ip -ts monitor`: time of day and netlink message."""
    devices = {"hl": 4, "u0": 3, "wlan0": 4}
    for stamp, text in re.findall(r"\[[\d-]+T([\d:.]+)\] (.*?)(?=\n\[|\Z)", path.read_text(), re.S):
        if match := _LINK.match(text):
            devices[match["dev"]] = int(match["index"])
            yield stamp, link_message(int(match["index"]), match["local"], match["remote"], bool(match["gone"]))
        elif match := _ROUTE.match(text):
            yield stamp, _route(match, devices)


def dumped(path: Path, node: str) -> Iterator[Any]:
    """Yield the tunnels and routes that `ip -d link` and `ip route` have shown in a node, as a dump has them."""
    section = path.read_text().partition(f"--- {node}\n")[2].partition("\n--- ")[0]
    devices = {"eth0": 3, "eth1": 4, "wlan0": 4}
    for match in _LINK.finditer(section):
        if match["remote"] != "any":  # the device that every namespace has
            devices[match["dev"]] = int(match["index"])
            yield link_message(int(match["index"]), match["local"], match["remote"], gone=False)
    heading = ""
    for line in section.splitlines():
        if line.startswith("table "):
            heading = line.removesuffix(":")
        if route := _ROUTE.match(line if " table " in line else line.replace(" proto", f" {heading} proto", 1)):
            yield _route(route, devices)


def _route(match: re.Match[str], devices: dict[str, int]) -> Any:
    route = (match["dst"], _TABLES[match["table"]], _PROTOCOLS.get(match["proto"], 3), int(match["metric"] or 0))
    return route_message(*route, devices[match["dev"]], match["src"], bool(match["gone"]))
