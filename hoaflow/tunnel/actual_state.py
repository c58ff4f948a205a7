# SPDX-License-Identifier: Apache-2.0
"""Read links, addresses, routes, rules, neighbours and settings of network namespaces, each at most once.

The comparison of a declaration asks for the same things again and again. Formats: linux/if_link.h, linux/if_addr.h,
linux/fib_rules.h, linux/neighbour.h, linux/rtnetlink.h.
"""

import contextlib
import functools
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hoaflow.closing import Closing
from hoaflow.linux import (
    AF_INET6,
    IFF_RUNNING,
    IFF_UP,
    NDA_DST,
    NDA_PROTOCOL,
    RTA_DST,
    RTA_ENCAP_TYPE,
    RTA_GATEWAY,
    RTA_IIF,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_SRC,
    RTA_TABLE,
    RTA_VIA,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETROUTE,
    RTM_GETRULE,
)
from hoaflow.tunnel import rtnetlink
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.namespace import Inside, Namespace, NamespaceError
from hoaflow.tunnel.nfnetlink import Contents, NftSocket
from hoaflow.tunnel.rtnetlink import RouteSocket, attributes
from hoaflow.tunnel.tc import Filter, Hook, Tc

T = TypeVar("T")

IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDR = struct.Struct("=BBBBI")  # family, length, flags, scope, index
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
RULE = struct.Struct("=BBBBBxxBI")  # family, dst_len, src_len, tos, table, action, flags
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_LINK_NETNSID = 37
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
NDA_LLADDR = 2
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK = (
    *(1, 2, 3, 6, 10, 14, 15, 16),
)
FRA_OIFNAME, FRA_PROTOCOL, FRA_IP_PROTO = 17, 21, 22


class MissingParent(TunnelError):
    """A namespace or an interface that something belongs to does not exist."""


class Link(NamedTuple):
    """An interface: `number` is its index, `peer` that of a veth's other end, `master` that of its master or 0.

    `data`: what its kind says of it (IFLA_INFO_DATA). `running`: it is up and has a carrier. `link_namespace`: the
    kernel's number for the namespace of a veth's other end, or in which a tunnel device was made; None if it is this
    one.
    """

    number: int
    mac: str
    mtu: int
    up: bool
    running: bool
    kind: str
    peer: int
    master: int
    data: bytes = b""
    link_namespace: int | None = None


class Address(NamedTuple):
    """An address on an interface, as text."""

    interface: int
    address: str
    length: int
    flags: int
    scope: int


class Neighbour(NamedTuple):
    """A neighbour's link-layer address. `protocol`: the number of who has made the entry, 0 if it is not noted."""

    interface: int
    address: str
    mac: str
    state: int
    protocol: int = 0


class FoundRoute(NamedTuple):
    """A route. `kind`: its type, as unicast (1) or blackhole (6). `hop`: its gateway as text, empty without one."""

    prefix: str
    table: int
    kind: int
    protocol: int
    metric: int
    interface: int
    hop: str
    encap_type: int
    message: bytes


class FoundRule(NamedTuple):
    """A routing rule: its preference, all else that it says in comparable form, and the kernel's message."""

    preference: int
    facts: tuple[tuple[int, bytes], ...]
    message: bytes


class ActualState(Closing):
    """What was read in network namespaces, each thing once until `forget`. A context manager. Not thread safe."""

    def __init__(self) -> None:
        self._threads: dict[Namespace, Inside] = {}
        self._sockets: dict[Namespace, RouteSocket] = {}
        self._nft_sockets: dict[Namespace, NftSocket] = {}
        self._seen: dict[tuple[object, ...], Any] = {}

    def forget(self) -> None:
        """Forget what was read, as something has been changed."""
        self._seen.clear()

    def close(self) -> None:
        """Forget what was read, and leave all namespaces: one of the same name may have been made since."""
        for opened in (self._sockets, self._nft_sockets, self._threads):
            for each in opened.values():
                each.close()
        self._sockets.clear()
        self._nft_sockets.clear()
        self._threads.clear()
        self.forget()

    def once(self, key: tuple[object, ...], read: Callable[[], T]) -> T:
        """Return what `read` returned when it was first called for this key."""
        if key not in self._seen:
            self._seen[key] = read()
        found: T = self._seen[key]
        return found

    def links(self, namespace: Namespace) -> dict[str, Link]:
        """Return the interfaces of a namespace by name. Raises MissingParent."""
        return self.once(("links", namespace), lambda: dict(map(_link, self._listing(namespace, RTM_GETLINK, 16))))

    def link(self, namespace: Namespace, name: str) -> Link:
        """Return an interface. Raises MissingParent."""
        found = self.links(namespace).get(name)
        if found is None:
            raise MissingParent(f"link {name} is missing")
        return found

    def addresses(self, namespace: Namespace) -> list[Address]:
        """Return all IPv6 and IPv4 addresses of a namespace."""
        return self.once(
            ("addresses", namespace),
            # Of all families that the kernel knows, such as AF_MCTP: the first octet of a message is its family.
            lambda: [
                _address(p) for p in self._listing(namespace, RTM_GETADDR, 8) if p[0] in (socket.AF_INET, AF_INET6)
            ],
        )

    def neighbours(self, namespace: Namespace, family: int = AF_INET6) -> list[Neighbour]:
        """Return all neighbours of a family in a namespace."""
        body = NDMSG.pack(family, 0, 0, 0, 0)
        return self.once(
            ("neighbours", namespace, family),
            lambda: [n for p in self._listing(namespace, RTM_GETNEIGH, body) if (n := _neighbour(p)) is not None],
        )

    def rules(self, namespace: Namespace, family: int) -> list[FoundRule]:
        """Return a family's routing rules, in order."""
        body = RULE.pack(family, 0, 0, 0, 0, 0, 0)
        return self.once(
            ("rules", namespace, family),
            lambda: sorted(map(found_rule, self._listing(namespace, RTM_GETRULE, body))),
        )

    def routes(self, namespace: Namespace, family: int, table: int, protocol: int) -> list[FoundRoute]:
        """Return a family's routes of one table and one protocol number (0: of all)."""

        def read() -> list[FoundRoute]:
            found = map(found_route, self.listed_routes(namespace, family, table, protocol))
            return [route for route in found if route.table == table and protocol in (0, route.protocol)]

        return self.once(("routes", namespace, family, table, protocol), read)

    def listed_routes(self, namespace: Namespace, family: int, table: int, protocol: int) -> list[bytes]:
        """Return the messages of these routes, read now, for `found_route`: parsing takes longer than reading."""
        body = rtnetlink.ROUTE.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
        body += rtnetlink.attribute(RTA_TABLE, struct.pack("=I", table))
        return self._listing(namespace, RTM_GETROUTE, body)

    def route_to(
        self, namespace: Namespace, destination: bytes, source: bytes = b"", entrance: int = 0
    ) -> FoundRoute | None:
        """Return the route that a packet takes now; None where it can't be sent.

        ``entrance``: the interface by which it comes, by its index; 0 for a packet of this namespace's own.
        """
        family, bits = (AF_INET6, 128) if len(destination) == 16 else (int(socket.AF_INET), 32)
        body = rtnetlink.ROUTE.pack(family, bits, 8 * len(source), 0, 0, 0, 0, 0, 0)
        body += rtnetlink.attribute(RTA_DST, destination)
        body += rtnetlink.attribute(RTA_SRC, source) if source else b""
        body += rtnetlink.attribute(RTA_IIF, struct.pack("=I", entrance)) if entrance else b""
        answer = self._socket(namespace).get(RTM_GETROUTE, body)
        return None if answer is None else found_route(answer)

    def listed_links(self, namespace: Namespace) -> list[bytes]:
        """Return the messages of all interfaces, read now, without netlink headers."""
        return self._listing(namespace, RTM_GETLINK, 16)

    def setting(self, namespace: Namespace, path: Path) -> str | None:
        """Return the content of a file below /proc/sys/net, or None if it does not exist."""

        def read() -> str | None:
            with contextlib.suppress(FileNotFoundError):
                return path.read_text().strip()
            return None

        return self.once(("setting", namespace, path), functools.partial(self._inside, namespace, read))

    def nft_table(self, namespace: Namespace, family: str, table: str, terse: bool) -> Contents | None:
        """Return what an nftables table says, or None if it does not exist. `terse`: without its sets' elements."""
        return self.once(
            ("nft", namespace, family, table, terse), lambda: self._nft(namespace).table(family, table, terse)
        )

    def tables(self, namespace: Namespace) -> set[tuple[str, str]]:
        """Return (family, name) of a namespace's nftables tables."""
        return self.once(("tables", namespace), self._nft(namespace).tables)

    def nft_comments(self, namespace: Namespace, family: str, table: str) -> list[str]:
        """Return the comments of the rules of an nftables table; none if it does not exist."""
        return self.once(("comments", namespace, family, table), lambda: self._nft(namespace).comments(family, table))

    def filters(self, namespace: Namespace, interface: int, hook: Hook) -> list[Filter]:
        """Return tc's filters at a hook of an interface, which is given by index."""
        return self.once(
            ("filters", namespace, interface, hook), lambda: Tc(self._socket(namespace)).filters(interface, hook)
        )

    def _nft(self, namespace: Namespace) -> NftSocket:
        opened = self._nft_sockets.get(namespace)
        if opened is None:
            opened = self._nft_sockets[namespace] = self._inside(namespace, NftSocket)
        return opened

    def _socket(self, namespace: Namespace) -> RouteSocket:
        opened = self._sockets.get(namespace)
        if opened is None:
            opened = self._sockets[namespace] = self._inside(namespace, RouteSocket)
        return opened

    def _listing(self, namespace: Namespace, kind: int, body: bytes | int) -> list[bytes]:
        return list(self._socket(namespace).listing(kind, bytes(body) if isinstance(body, int) else body))

    def _inside(self, namespace: Namespace, read: Callable[[], T]) -> T:
        try:
            if namespace not in self._threads:
                self._threads[namespace] = Inside(namespace)
            return self._threads[namespace].run(read)
        except NamespaceError as error:
            raise MissingParent(str(error)) from error


def _link(payload: bytes) -> tuple[str, Link]:
    _, _, index, flags, _ = IFINFO.unpack_from(payload)
    found = dict(attributes(payload[IFINFO.size :]))
    info = dict(attributes(found.get(IFLA_LINKINFO, b"")))
    return _text(found[IFLA_IFNAME]), Link(
        index,
        found.get(IFLA_ADDRESS, b"").hex(":"),
        _number(found.get(IFLA_MTU)),
        bool(flags & IFF_UP),
        bool(flags & IFF_RUNNING),
        _text(info.get(IFLA_INFO_KIND, b"")),
        _number(found.get(IFLA_LINK)),
        _number(found.get(IFLA_MASTER)),
        info.get(IFLA_INFO_DATA, b""),
        _number(found[IFLA_LINK_NETNSID]) if IFLA_LINK_NETNSID in found else None,
    )


def _address(payload: bytes) -> Address:
    family, length, flags, scope, index = IFADDR.unpack_from(payload)
    found = dict(attributes(payload[IFADDR.size :]))
    # of an IPv4 address on a point-to-point link IFA_ADDRESS is the other end
    address = socket.inet_ntop(family, found.get(IFA_LOCAL) or found[IFA_ADDRESS])
    return Address(index, address, length, _number(found.get(IFA_FLAGS)) or flags, scope)


def _neighbour(payload: bytes) -> Neighbour | None:
    family, index, state, _, _ = NDMSG.unpack_from(payload)
    found = dict(attributes(payload[NDMSG.size :]))
    if family not in (socket.AF_INET, AF_INET6) or NDA_DST not in found:
        return None
    protocol = int.from_bytes(found.get(NDA_PROTOCOL, b""), "little")
    address, mac = socket.inet_ntop(family, found[NDA_DST]), found.get(NDA_LLADDR, b"").hex(":")
    return Neighbour(index, address, mac, state, protocol)


def found_route(payload: bytes) -> FoundRoute:
    """Parse a route's message, without netlink header."""
    family, length, _, _, table, protocol, _, kind, _ = rtnetlink.ROUTE.unpack_from(payload)
    found = dict(attributes(payload[rtnetlink.ROUTE.size :]))
    unspecified = bytes(16 if family == AF_INET6 else 4)
    hop = ""
    if RTA_GATEWAY in found:
        hop = socket.inet_ntop(family, found[RTA_GATEWAY])
    elif RTA_VIA in found:
        via = found[RTA_VIA]
        hop = socket.inet_ntop(struct.unpack_from("=H", via)[0], via[2:])
    encap_type = found.get(RTA_ENCAP_TYPE)
    return FoundRoute(
        f"{socket.inet_ntop(family, found.get(RTA_DST, unspecified))}/{length}",
        _number(found.get(RTA_TABLE)) or table,
        kind,
        protocol,
        _number(found.get(RTA_PRIORITY)),
        _number(found.get(RTA_OIF)),
        hop,
        struct.unpack_from("=H", encap_type)[0] if encap_type else 0,
        payload,
    )


def found_rule(payload: bytes) -> FoundRule:
    """Parse a routing rule's message, without netlink header, as the kernel lists it or is asked for it."""
    _, _, _, tos, table, action, flags = RULE.unpack_from(payload)
    found = dict(attributes(payload[RULE.size :]))
    preference = _number(found.pop(FRA_PRIORITY, None))
    # What the kernel adds by itself, and who made the rule, are not what it says.
    for silent in (FRA_PROTOCOL, FRA_SUPPRESS_PREFIXLEN):
        if silent == FRA_PROTOCOL or found.get(silent) == b"\xff" * 4:
            found.pop(silent, None)
    if found.get(FRA_FWMASK) == b"\xff" * 4:
        del found[FRA_FWMASK]  # the default
    found[FRA_TABLE] = found.get(FRA_TABLE) or struct.pack("=I", table)
    # FIB_RULE_INVERT is the only flag that says something; others are the kernel's notes.
    lengths = payload[1:3]
    header = lengths + bytes((tos, action, flags & 0x2))
    return FoundRule(preference, ((0, header), *sorted(found.items())), payload)


def _number(value: bytes | None) -> int:
    return 0 if not value else int(struct.unpack_from("=I", value)[0])


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
