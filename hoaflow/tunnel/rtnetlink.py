# SPDX-License-Identifier: Apache-2.0
"""Change and list IPv6 and IPv4 routes over rtnetlink, in batches.

pyroute2 waits for the answer to each request, which makes 3,000 routes a second, and does not know seg6's `encap.red`
(mode 3). A home agent may have 100,000 bindings, so the messages are packed here, and many are sent at a time. Formats:
linux/rtnetlink.h, linux/lwtunnel.h, linux/seg6_iptunnel.h, linux/seg6_local.h.
"""

import errno
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hoaflow.addresses import Prefix
from hoaflow.linux import (
    NETLINK_GET_STRICT_CHK,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    RT_SCOPE_UNIVERSE,
    RTA_DST,
    RTA_ENCAP,
    RTA_ENCAP_TYPE,
    RTA_TABLE,
    RTM_GETROUTE,
    RTN_UNICAST,
    SOL_NETLINK,
)
from hoaflow.tunnel.namespace import Namespace, in_namespace

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
ATTRIBUTE = struct.Struct("=HH")
ERROR = struct.Struct("=i")

RECEIVE_BYTES = 1 << 20
BATCH = 256  # messages sent before their acknowledgements are read: these must fit the socket's receive buffer
TIMEOUT = 10.0  # seconds
MEMORY_RETRIES, MEMORY_PAUSE = 50, 0.02  # times, seconds


class Route(NamedTuple):
    """A route as the kernel lists it; `encap` is the raw RTA_ENCAP, of the type `encap_type`."""

    prefix: Prefix
    table: int
    encap_type: int
    encap: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    """Pack a netlink attribute, padded to 4 bytes."""
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of the netlink attributes in `data`. Raises ValueError for an impossible length."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            raise ValueError(f"netlink attribute of length {length} at offset {offset} of {len(data)} bytes")
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def route_body(prefix: Prefix, table: int, protocol: int, rest: bytes) -> bytes:
    """Pack a route message without its netlink header; `rest`: all attributes but destination and table."""
    in_header = table if table < 256 else 0
    message = ROUTE.pack(prefix.family, prefix.length, 0, 0, in_header, protocol, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0)
    return message + attribute(RTA_DST, prefix.packed) + attribute(RTA_TABLE, struct.pack("=I", table)) + rest


def interface_index(namespace: Namespace, name: str) -> int | None:
    """Return the index of an interface in a namespace, or None if there is none of that name."""

    def find() -> int | None:
        try:
            return socket.if_nametoindex(name)
        except OSError:
            return None

    return in_namespace(namespace, find)


def unpacked(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, sequence number and payload of the netlink messages in `data`."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, _flags, sequence, _port = HEADER.unpack_from(data, offset)
        yield kind, sequence, data[offset + 16 : offset + length]
        offset += max((length + 3) & ~3, 16)


def _open() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)


class RouteSocket:
    """A route netlink socket inside a namespace. Not thread safe."""

    def __init__(self, namespace: Namespace = None) -> None:
        # pyroute2 would start a process for each socket in another namespace, and a handover waits for this.
        self.socket = in_namespace(namespace, _open)
        self.socket.bind((0, 0))
        self.socket.settimeout(TIMEOUT)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        # without strict checking the kernel ignores the table and the protocol asked for in a dump
        self.socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self.sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def request(self, kind: int, flags: int, bodies: Iterable[bytes]) -> list[int]:
        """Send one message per body and return 0 or its errno for each. Raises OSError if the socket fails."""
        messages = list(bodies)
        codes = self._send_all(kind, flags, messages)
        # Recent kernels take a route's per-CPU memory from a small reserve that they refill in the background: in a
        # burst of routes, ENOMEM is over a moment later.
        for _ in range(MEMORY_RETRIES):
            short = [index for index, code in enumerate(codes) if code == errno.ENOMEM]
            if not short:
                break
            time.sleep(MEMORY_PAUSE)
            for index, code in zip(short, self._send_all(kind, flags, [messages[i] for i in short]), strict=True):
                codes[index] = code
        return codes

    def _send_all(self, kind: int, flags: int, messages: list[bytes]) -> list[int]:
        codes: list[int] = []
        for start in range(0, len(messages), BATCH):
            codes += self._exchange(kind, flags | NLM_F_REQUEST | NLM_F_ACK, messages[start : start + BATCH])
        return codes

    def _exchange(self, kind: int, flags: int, bodies: list[bytes]) -> list[int]:
        first = self.sequence + 1
        self.sequence += len(bodies)
        self.socket.send(
            b"".join(
                HEADER.pack(16 + len(body), kind, flags, first + index, 0) + body for index, body in enumerate(bodies)
            )
        )
        codes: dict[int, int] = {}
        while len(codes) < len(bodies):
            for message_kind, sequence, payload in self._receive():
                if message_kind == NLMSG_ERROR and first <= sequence <= self.sequence:
                    codes[sequence - first] = -ERROR.unpack_from(payload)[0]
        return [codes[index] for index in range(len(bodies))]

    def dump(self, family: int, protocol: int, table: int) -> Iterator[Route]:
        """Yield a family's routes of one table and one protocol number. Raises OSError if the kernel refuses."""
        body = ROUTE.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
        body += attribute(RTA_TABLE, struct.pack("=I", table))
        for payload in self.listing(RTM_GETROUTE, body):
            route = _route(payload)
            if payload[5] == protocol and route.table == table:
                yield route

    def listing(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Yield what the kernel lists (NLM_F_DUMP) in answer to a message: messages without netlink headers.

        Raises OSError if the kernel refuses.
        """
        self.sequence += 1
        flags = NLM_F_REQUEST | NLM_F_DUMP
        self.socket.send(HEADER.pack(16 + len(body), kind, flags, self.sequence, 0) + body)
        while True:
            for answer, sequence, payload in self._receive():
                if sequence != self.sequence:
                    continue
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    code = -ERROR.unpack_from(payload)[0]
                    # The kernel answers ENOENT for a routing table that never had a route.
                    if code not in (0, errno.ENOENT):
                        raise OSError(code, f"netlink listing {kind}: {os.strerror(code)}")
                    return
                yield payload

    def get(self, kind: int, body: bytes) -> bytes | None:
        """Ask for one thing; return the answer without its netlink header, None where there is none.

        Raises OSError if the socket fails.
        """
        self.sequence += 1
        self.socket.send(HEADER.pack(16 + len(body), kind, NLM_F_REQUEST, self.sequence, 0) + body)
        while True:
            for answer, sequence, payload in self._receive():
                if sequence == self.sequence:
                    return None if answer == NLMSG_ERROR else payload

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        return unpacked(self.socket.recv(RECEIVE_BYTES))


def _route(payload: bytes) -> Route:
    family, length, _src, _tos, table, *_rest = ROUTE.unpack_from(payload)
    found = dict(attributes(payload[12:]))
    if RTA_TABLE in found:
        table = struct.unpack("=I", found[RTA_TABLE])[0]
    encap_type = struct.unpack("=H", found[RTA_ENCAP_TYPE][:2])[0] if RTA_ENCAP_TYPE in found else 0
    unspecified = bytes(16 if family == socket.AF_INET6 else 4)
    prefix = Prefix(found.get(RTA_DST, unspecified), length)
    return Route(prefix, table, encap_type, found.get(RTA_ENCAP, b""))
