# SPDX-License-Identifier: Apache-2.0
"""Receive ICMPv6 messages that the kernel leaves to programs, after it has verified their checksums."""

import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address
from typing import NamedTuple

from hoaflow.linux import ICMPV6_FILTER, IPV6_JOIN_ANYCAST
from hoaflow.mobility.packet_io import BATCH, MAX_PACKET

_ADDRESS_ON = struct.Struct("=16si")  # an address on an interface: in6_pktinfo, ipv6_mreq


class Icmpv6Message(NamedTuple):
    """A message from its ICMPv6 header on, the index of the interface by which it came, and its hop limit."""

    source: str
    destination: str
    interface: int
    hop_limit: int
    data: bytes


class Icmpv6Socket:
    """A non-blocking socket for ICMPv6 messages of some types."""

    def __init__(self, types: Iterable[int]) -> None:
        """Open it. Raises OSError (no permission)."""
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
        blocked = [0xFFFFFFFF] * 8
        for kind in types:
            blocked[kind >> 5] &= ~(1 << (kind & 31))
        self._socket.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, struct.pack("=8I", *blocked))
        for option in (socket.IPV6_RECVPKTINFO, socket.IPV6_RECVHOPLIMIT):
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, 1)

    def join_anycast(self, address: IPv6Address, interface: int) -> None:
        """Have an anycast address on an interface (its index) until the socket is closed. Raises OSError."""
        self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_JOIN_ANYCAST, _ADDRESS_ON.pack(address.packed, interface))

    def fileno(self) -> int:
        """Return its descriptor, for selectors."""
        return self._socket.fileno()

    def messages(self) -> Iterator[Icmpv6Message]:
        """Yield messages that have arrived, at most BATCH. Raises OSError."""
        for _ in range(BATCH):
            try:
                data, extra, _, sender = self._socket.recvmsg(MAX_PACKET, 128)
            except BlockingIOError:
                return
            facts = {kind: value for level, kind, value in extra if level == socket.IPPROTO_IPV6}
            destination, interface = _ADDRESS_ON.unpack(facts[socket.IPV6_PKTINFO])
            yield Icmpv6Message(
                source=sender[0].partition("%")[0],
                destination=str(IPv6Address(destination)),
                interface=interface,
                hop_limit=int.from_bytes(facts[socket.IPV6_HOPLIMIT], sys.byteorder),
                data=data,
            )

    def close(self) -> None:
        """Close it."""
        self._socket.close()
