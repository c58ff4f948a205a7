# SPDX-License-Identifier: Apache-2.0
"""Derive bindings from a home agent's kernel: tunnel devices or seg6 routes. Pure: messages are arguments.

A home agent with ip6tnl (UMIP) has one device per pair of home agent and care-of address, and a route of protocol 16
through it for each home address or mobile network prefix, the latter in table 252. A handover changes only the device;
on the return home its remote becomes the home address itself. Without ip6tnl, each route encapsulates by itself (seg6
with the care-of address as the single segment) and is replaced at a handover. A home agent of Mobile IPv4 (proxymip4)
has an ipip device per care-of address, and a route of protocol boot for each home address; at a handover it removes
both and makes others. `hoaflow-ha --protocol mipv4` has routes of protocol 16, whose metric is the care-of address. The
kernel knows neither lifetime nor sequence number.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

from ha_bridge.model import SEVERAL_GATEWAYS, Observed
from hoaflow.addresses import canonical_address, canonical_prefix, format_address, parse_prefix
from hoaflow.linux import LWTUNNEL_ENCAP_SEG6, MAIN_TABLE


class TunnelKind(NamedTuple):
    """How home agents show their tunnels in the kernel.

    `families`: of their routes. `device`: the kind of their devices, with the attributes `local` and `remote`.
    `protocols`: those of their routes (ip-route(8)).
    """

    families: tuple[int, ...]
    device: str
    local: str
    remote: str
    protocols: tuple[int, ...]


BOOT, HOAFLOW = 3, 16  # the latter is UMIP's, too
# By whether the home agent's address is IPv4.
TUNNEL_KINDS = {
    # Also of IPv4 home addresses (RFC 5555).
    False: TunnelKind((AF_INET6, AF_INET), "ip6tnl", "IFLA_IP6TNL_LOCAL", "IFLA_IP6TNL_REMOTE", protocols=(HOAFLOW,)),
    True: TunnelKind((AF_INET,), "ipip", "IFLA_IPIP_LOCAL", "IFLA_IPIP_REMOTE", protocols=(BOOT, HOAFLOW)),
}

# A message as pyroute2 decodes it: fields by name, `get_attr` for attributes.
Message = Any


@dataclass(frozen=True, slots=True)
class _Route:
    device: int | None
    segment: str | None


class KernelView:
    """Hold the tunnels of one home agent, updated message by message.

    With `prefix_length`, longer prefixes are shown shortened to it: an LMA may have a route for the one address that it
    knows of a home network prefix (OAI PMIPv6).
    """

    def __init__(self, home_agent: str, home_prefixes: Iterable[str], prefix_length: int = 128) -> None:
        self.kind = TUNNEL_KINDS[":" not in home_agent]
        self._home_agent = home_agent
        self._prefix_length = prefix_length
        self._home_prefixes = [parse_prefix(prefix) for prefix in home_prefixes]
        self._remotes: dict[int, str] = {}
        # By table, prefix and metric, which distinguish routes to the same destination.
        self._routes: dict[tuple[int, str, int], _Route] = {}

    def apply(self, message: Message) -> bool:
        """Apply a link or route message; tell whether it concerned a tunnel of a home agent."""
        event = message.get("event")  # pyroute2 has no name for the kinds that it does not know
        if event in ("RTM_NEWLINK", "RTM_DELLINK"):
            return self._link(message, gone=event == "RTM_DELLINK")
        if event in ("RTM_NEWROUTE", "RTM_DELROUTE"):
            return self._route(message, gone=event == "RTM_DELROUTE")
        return False

    def _link(self, message: Message, gone: bool) -> bool:
        info = message.get_attr("IFLA_LINKINFO")
        if info is None or info.get_attr("IFLA_INFO_KIND") != self.kind.device:
            return False
        data = info.get_attr("IFLA_INFO_DATA")
        if data is None:
            return False
        local, remote = data.get_attr(self.kind.local), data.get_attr(self.kind.remote)
        index = message["index"]
        known = self._remotes.pop(index, None)
        if local is None or remote is None or canonical_address(local) != self._home_agent:
            return known is not None
        if not gone:
            self._remotes[index] = canonical_address(remote)
        return True

    def _route(self, message: Message, gone: bool) -> bool:
        destination = message.get_attr("RTA_DST")
        ours = message["family"] in self.kind.families and message["proto"] in self.kind.protocols
        if not ours or destination is None:
            return False
        table = message.get_attr("RTA_TABLE") or message["table"]
        prefix = canonical_prefix(f"{destination}/{message['dst_len']}", strict=False)
        key = (table, prefix, message.get_attr("RTA_PRIORITY") or 0)
        if message["src_len"]:
            return True  # a route for UMIP's own packets to the home address: on the home link, without tunnel
        if gone:
            self._routes.pop(key, None)
        else:
            self._routes[key] = _Route(message.get_attr("RTA_OIF"), self._care_of_address(message))
        return True

    def bindings(self) -> list[Observed]:
        """Return the bindings that the kernel shows, without lifetimes and sequence numbers.

        A prefix is withheld if routes for parts of it lead to several care-of addresses.
        """
        found: dict[str, Observed] = {}
        counted: set[str] = set()
        # The main table comes first, then the lower metric: the first of several routes to one destination counts.
        for (_table, destination, _metric), route in sorted(self._routes.items(), key=_precedence):
            care_of = route.segment or self._remotes.get(route.device or 0)
            if care_of is None or destination in counted or not self._in_home_prefix(destination):
                continue
            # After a return home the remote is the home address itself until the routes are removed.
            if self._in_home_prefix(care_of):
                continue
            counted.add(destination)
            home = self._shortened(destination)
            known = found.setdefault(home, Observed(home, care_of))
            if known.care_of_address != care_of:
                found[home] = replace(known, withheld=SEVERAL_GATEWAYS)
        return list(found.values())

    def _care_of_address(self, message: Message) -> str | None:
        """Return the care-of address that a route itself says, None if it is that of the route's device."""
        if AF_INET6 in self.kind.families:
            return _single_segment(message)
        return _by_metric(message)

    def _shortened(self, home: str) -> str:
        if self._prefix_length == 128:
            return home
        prefix = parse_prefix(home)
        return str(prefix.shortened(min(prefix.length, self._prefix_length)))

    def _in_home_prefix(self, address: str) -> bool:
        wanted = parse_prefix(address)
        return any(prefix.contains(wanted) for prefix in self._home_prefixes)


def _precedence(item: tuple[tuple[int, str, int], _Route]) -> tuple[bool, int, int]:
    (table, _home, metric), _route = item
    return table != MAIN_TABLE, table, metric


def _by_metric(message: Message) -> str | None:
    if message["proto"] != HOAFLOW:
        return None
    return format_address((message.get_attr("RTA_PRIORITY") or 0).to_bytes(4, "big"))


def _single_segment(message: Message) -> str | None:
    if message.get_attr("RTA_ENCAP_TYPE") != LWTUNNEL_ENCAP_SEG6:
        return None
    # pyroute2 has no name for the reduced mode (3), but reads its segments.
    header = message.get_attr("RTA_ENCAP").get_attr("SEG6_IPTUNNEL_SRH")
    segments = header["segs"]
    return canonical_address(segments[0]) if len(segments) == 1 else None
