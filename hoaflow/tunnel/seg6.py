# SPDX-License-Identifier: Apache-2.0
"""Encapsulate and decapsulate IP-in-IP by kernel routes: seg6's reduced mode, End.DT6 and End.DX4.

With a single segment, the reduced mode (RFC 8986, H.Encaps.Red) writes no routing header: the packet is plain
IPv6-in-IPv6 or IPv4-in-IPv6 (RFC 2473), byte for byte as an ip6tnl device writes it. One route per binding scales, one
tunnel device per mobile node does not. Needs root, and Linux >= 6.0 with CONFIG_IPV6_SEG6_LWTUNNEL.

Encapsulating a forwarded packet neither decrements the inner hop limit nor answers Packet Too Big; the outer hop limit
is the inner one with IPv6 inside, and the kernel's default with IPv4 (seen on Linux 6.18). `hoaflow.router.endpoint`
compensates for that.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Mapping

from pyroute2 import GenericNetlinkSocket
from pyroute2.netlink import genlmsg
from pyroute2.netlink.exceptions import NetlinkError

from hoaflow.addresses import Prefix, canonical_prefix, parse_ipv6_address, parse_prefix
from hoaflow.closing import Closing
from hoaflow.linux import (
    LWTUNNEL_ENCAP_SEG6,
    LWTUNNEL_ENCAP_SEG6_LOCAL,
    MAIN_TABLE,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    RTA_ENCAP,
    RTA_ENCAP_TYPE,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_VIA,
    RTM_DELROUTE,
    RTM_NEWROUTE,
)
from hoaflow.tunnel import rtnetlink
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.namespace import Namespace, netlink_descriptor
from hoaflow.tunnel.rtnetlink import attribute, attributes

PROTOCOL = 104  # the protocol number of our routes, and only of them (`ip route show proto 104`)

ENCAP_RED = 3  # SEG6_IPTUN_MODE_ENCAP_RED of linux/seg6_iptunnel.h
SEG6_IPTUNNEL_SRH = 1
ROUTING_TYPE_SRH = 4
SEG6_LOCAL_ACTION, SEG6_LOCAL_TABLE, SEG6_LOCAL_NH4 = 1, 3, 4
END_DX4, END_DT6 = 6, 7
NETLINK_GENERIC = 16
SEG6_CMD_SET_TUNSRC, SEG6_CMD_GET_TUNSRC = 3, 4


class Seg6Error(TunnelError):
    """The kernel refused a seg6 route or setting."""


class _Seg6Message(genlmsg):
    nla_map = (("SEG6_ATTR_UNSPEC", "none"), ("SEG6_ATTR_DST", "ip6addr"))


class Seg6Routes(Closing):
    """The seg6 routes of one protocol number in one network namespace.

    Prefixes are text: `2001:db8:99::100`, `2001:db8:98::/64`, `192.0.2.0/24`. Those returned are in RFC 5952 form,
    single addresses without a length. Every call is idempotent. Raises NamespaceError, ValueError for an unparsable
    address, and Seg6Error if the kernel refuses. Not thread safe.
    """

    def __init__(self, namespace: Namespace = None, protocol: int = PROTOCOL) -> None:
        self.namespace = namespace
        self.protocol = protocol
        self._routes = rtnetlink.RouteSocket(namespace)

    def close(self) -> None:
        """Close the netlink socket."""
        self._routes.close()

    @property
    def port(self) -> int:
        """The netlink port that the changes come from."""
        return int(self._routes.socket.getsockname()[0])

    def set_source(self, address: str) -> None:
        """Set the outer source address of all encapsulation in this namespace (`ip sr tunsrc set`); `::` unsets it."""
        parse_ipv6_address(address)
        self._generic(SEG6_CMD_SET_TUNSRC, NLM_F_REQUEST | NLM_F_ACK, address)

    def source(self) -> str:
        """Return the outer source address, `::` if none is set."""
        for answer in self._generic(SEG6_CMD_GET_TUNSRC, NLM_F_REQUEST, None):
            found = answer.get_attr("SEG6_ATTR_DST")
            if found is not None:
                return canonical_prefix(found)
        raise Seg6Error(f"the kernel did not say the tunnel source of namespace {self.namespace or 'current'}")

    def encapsulate(
        self, destination_prefix: str, segment: str, via: str | None, dev: str, table: int = MAIN_TABLE
    ) -> None:
        """Encapsulate packets for `destination_prefix` to `segment`, the tunnel's far end, in place of another one."""
        failed = self.encapsulate_all({destination_prefix: segment}, via, dev, table)
        for prefix, reason in failed.items():
            raise Seg6Error(f"route {prefix} encapsulated to {segment} via {via} dev {dev}: {reason}")

    def encapsulate_all(
        self, segments: Mapping[str, str], via: str | None, dev: str, table: int = MAIN_TABLE
    ) -> dict[str, str]:
        """Encapsulate for many, `{destination prefix: segment}`; returns `{prefix: reason}` of those refused."""
        if not segments:
            return {}
        hop = _next_hop(self._index(dev), via)
        bodies = []
        for text, segment in segments.items():
            prefix = parse_prefix(text)
            rest = hop[prefix.family] + _metric(prefix) + _encap_red(segment)
            bodies.append(rtnetlink.route_body(prefix, table, self.protocol, rest))
        flags = NLM_F_CREATE | NLM_F_REPLACE
        return self._refused(segments, self._routes.request(RTM_NEWROUTE, flags, bodies))

    def decapsulate(
        self, destination_prefix: str, dev: str, lookup_table: int = MAIN_TABLE, table: int = MAIN_TABLE
    ) -> None:
        """Decapsulate packets for `destination_prefix`, and route the inner packets by `lookup_table` (End.DT6).

        `dev` only has to exist, as the route needs a device; no packet passes through it. The prefix must not contain a
        local address of the namespace, unless `hoaflow.tunnel.local_decapsulation` prepared it.
        """
        lookup = attribute(SEG6_LOCAL_TABLE, struct.pack("=I", lookup_table))
        self._decapsulate(destination_prefix, END_DT6, lookup, dev, table)

    def decapsulate_ipv4(self, destination_prefix: str, next_hop: str, dev: str, table: int = MAIN_TABLE) -> None:
        """Decapsulate packets for `destination_prefix`, and send the inner IPv4 packets to `next_hop` (End.DX4).

        The next hop is looked up by the rules and routes for the incoming interface. End.DT4 would need a VRF, which
        not every kernel has. `dev` as for `decapsulate`.
        """
        hop = attribute(SEG6_LOCAL_NH4, socket.inet_pton(socket.AF_INET, next_hop))
        self._decapsulate(destination_prefix, END_DX4, hop, dev, table)

    def _decapsulate(self, destination_prefix: str, action: int, parameter: bytes, dev: str, table: int) -> None:
        local = attribute(SEG6_LOCAL_ACTION, struct.pack("=I", action)) + parameter
        rest = attribute(RTA_OIF, struct.pack("=I", self._index(dev)))
        rest += attribute(RTA_ENCAP_TYPE, struct.pack("=H", LWTUNNEL_ENCAP_SEG6_LOCAL))
        rest += attribute(RTA_ENCAP, local)
        body = rtnetlink.route_body(parse_prefix(destination_prefix), table, self.protocol, rest)
        flags = NLM_F_CREATE | NLM_F_REPLACE
        codes = self._routes.request(RTM_NEWROUTE, flags, [body])
        for prefix, reason in self._refused([destination_prefix], codes).items():
            raise Seg6Error(f"route {prefix} seg6local action {action} dev {dev} table {table}: {reason}")

    def remove(self, prefix: str, table: int = MAIN_TABLE) -> None:
        """Remove our route for `prefix`, if there is one."""
        for refused, reason in self.remove_all([prefix], table).items():
            raise Seg6Error(f"removing route {refused} of table {table}: {reason}")

    def remove_all(self, prefixes: Iterable[str], table: int = MAIN_TABLE) -> dict[str, str]:
        """Remove our routes for many prefixes; returns `{prefix: reason}` of those refused."""
        wanted = list(prefixes)
        bodies = [rtnetlink.route_body(parse_prefix(prefix), table, self.protocol, b"") for prefix in wanted]
        codes = self._routes.request(RTM_DELROUTE, 0, bodies)
        return self._refused(wanted, [0 if code == errno.ESRCH else code for code in codes])

    def installed(self, table: int = MAIN_TABLE) -> dict[str, str]:
        """Return `{destination prefix: segment}` of our encapsulating routes in `table`, read from the kernel."""
        found = {}
        for family in (socket.AF_INET6, socket.AF_INET):
            for route in self._routes.dump(family, self.protocol, table):
                if route.encap_type == LWTUNNEL_ENCAP_SEG6:
                    header = dict(attributes(route.encap))[SEG6_IPTUNNEL_SRH]
                    found[str(route.prefix)] = socket.inet_ntop(socket.AF_INET6, header[12:28])
        return found

    def decapsulated(self, table: int = MAIN_TABLE) -> dict[str, int | str]:
        """Return our End.DT6 and End.DX4 routes in `table`, `{destination prefix: lookup table or IPv4 next hop}`."""
        found: dict[str, int | str] = {}
        for route in self._routes.dump(socket.AF_INET6, self.protocol, table):
            if route.encap_type == LWTUNNEL_ENCAP_SEG6_LOCAL:
                local = dict(attributes(route.encap))
                action = struct.unpack("=I", local[SEG6_LOCAL_ACTION])[0]
                if action == END_DT6 and SEG6_LOCAL_TABLE in local:
                    found[str(route.prefix)] = struct.unpack("=I", local[SEG6_LOCAL_TABLE])[0]
                elif action == END_DX4:
                    found[str(route.prefix)] = socket.inet_ntop(socket.AF_INET, local[SEG6_LOCAL_NH4])
        return found

    def _refused(self, prefixes: Iterable[str], codes: list[int]) -> dict[str, str]:
        return {prefix: _explain(code) for prefix, code in zip(prefixes, codes, strict=True) if code != 0}

    def _index(self, dev: str) -> int:
        index = rtnetlink.interface_index(self.namespace, dev)
        if index is None:
            raise Seg6Error(f"no interface {dev!r} in network namespace {self.namespace or 'current'}")
        return index

    def _generic(self, command: int, flags: int, address: str | None) -> tuple[genlmsg, ...]:
        message = _Seg6Message()
        message["cmd"] = command
        message["version"] = 1
        if address is not None:
            message["attrs"] = [("SEG6_ATTR_DST", address)]
        with GenericNetlinkSocket(fileno=netlink_descriptor(self.namespace, NETLINK_GENERIC)) as generic:
            try:
                generic.bind("SEG6", _Seg6Message)
                return tuple(generic.nlm_request(message, msg_type=generic.prid, msg_flags=flags))
            except NetlinkError as error:
                raise Seg6Error(
                    f"seg6 tunnel source in namespace {self.namespace or 'current'}: {_explain(error.code)}"
                ) from error


def _next_hop(interface: int, via: str | None) -> dict[int, bytes]:
    """Return attributes by the route's family: interface, IPv6 gateway, and the type of encapsulation."""
    of_ipv6 = of_ipv4 = attribute(RTA_OIF, struct.pack("=I", interface))
    if via is not None:
        gateway = parse_ipv6_address(via)
        of_ipv6 += attribute(RTA_GATEWAY, gateway)
        of_ipv4 += attribute(RTA_VIA, struct.pack("=H", socket.AF_INET6) + gateway)
    kind = attribute(RTA_ENCAP_TYPE, struct.pack("=H", LWTUNNEL_ENCAP_SEG6))
    return {socket.AF_INET6: of_ipv6 + kind, socket.AF_INET: of_ipv4 + kind}


def distinct_metric(prefix: Prefix) -> int:
    """Return a metric for an IPv4 route that no route to another destination has: the destination as a number.

    The kernel shares next hops among IPv4 routes, and finds them by metric and interface alone: with one metric for
    all, it compares each new route with all others (20,000 routes took 21 s, with this metric 0.6 s). IPv6 shares none.
    """
    return int.from_bytes(prefix.packed, "big")


def _metric(prefix: Prefix) -> bytes:
    if prefix.family == socket.AF_INET6:
        return b""
    return attribute(RTA_PRIORITY, struct.pack("=I", distinct_metric(prefix)))


def _encap_red(segment: str) -> bytes:
    return attribute(RTA_ENCAP, encapsulation(segment))


def encapsulation(segment: str) -> bytes:
    """Return RTA_ENCAP of one segment in reduced mode: the mode, then the routing header that would carry it."""
    header = struct.pack("=IBBBBBBH", ENCAP_RED, 0, 2, ROUTING_TYPE_SRH, 0, 0, 0, 0) + parse_ipv6_address(segment)
    return attribute(SEG6_IPTUNNEL_SRH, header)


def _explain(code: int) -> str:
    hints = {
        errno.EPERM: "root (CAP_NET_ADMIN) is needed",
        errno.EOPNOTSUPP: "the kernel needs CONFIG_IPV6_SEG6_LWTUNNEL and Linux >= 6.0",
        errno.ENOENT: "the kernel needs CONFIG_IPV6_SEG6_LWTUNNEL and Linux >= 6.0",
        errno.EINVAL: "the kernel needs Linux >= 6.0 for encap.red; the gateway must be on the link",
    }
    hint = f" ({hints[code]})" if code in hints else ""
    return f"{os.strerror(code)}{hint}"
