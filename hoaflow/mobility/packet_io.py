# SPDX-License-Identifier: Apache-2.0
"""Receive and send Mobile IPv6 packets, whether or not the kernel has CONFIG_IPV6_MIP6.

Without it, the kernel answers a Home Address option or a type 2 routing header with an ICMPv6 Parameter Problem and
delivers the packet to nobody. So packet sockets receive these packets before the kernel's IPv6 does, and an nftables
table then drops exactly these, so that the kernel does not answer them.
"""

import contextlib
import ctypes
import errno
import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address

from hoaflow.linux import ETH_P_IPV6, IFF_RUNNING, SOL_PACKET
from hoaflow.tunnel import nft

PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST = 0, 1, 2
SO_ATTACH_FILTER = 26
PACKET_ADD_MEMBERSHIP, PACKET_MR_ALLMULTI = 1, 2
SIOCGIFFLAGS, SIOCGIFHWADDR = 0x8913, 0x8927
MAX_PACKET = 65575
GUARD_PRIORITY = -310
BATCH = 64
"""Packets read at a time, so that a flood does not keep the main loop from its other sockets."""
SEND_SECONDS = 1.0
"""How long a packet waits for room in a link's queue, which thousands of advertisements can fill."""

_LOAD_BYTE, _LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x30, 0x20, 0x15, 0x06


def attach_filter(sock: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    """Attach a classic BPF program (code, jump-true, jump-false, constant) to a packet socket."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HL", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)


def addressed_to(destination: str, next_headers: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Return the BPF program for IPv6 packets to an address whose first next header is one of these."""
    words = struct.unpack("!4I", IPv6Address(destination).packed)
    program: list[tuple[int, int, int, int]] = []
    length = 8 + 1 + len(next_headers) + 2
    for index, word in enumerate(words):
        program.append((_LOAD_WORD, 0, 0, 24 + 4 * index))
        program.append((_JUMP_EQUAL, 0, length - 2 - len(program) - 1, word))
    program.append((_LOAD_BYTE, 0, 0, 6))
    for header in next_headers:
        program.append((_JUMP_EQUAL, length - 1 - len(program) - 1, 0, header))
    return [*program, (_RETURN, 0, 0, 0), (_RETURN, 0, 0, MAX_PACKET)]


def router_solicitations() -> list[tuple[int, int, int, int]]:
    """Return the BPF program for Router Solicitations without extension headers."""
    return [
        (_LOAD_BYTE, 0, 0, 6),
        (_JUMP_EQUAL, 0, 3, socket.IPPROTO_ICMPV6),
        (_LOAD_BYTE, 0, 0, 40),
        (_JUMP_EQUAL, 0, 1, 133),
        (_RETURN, 0, 0, MAX_PACKET),
        (_RETURN, 0, 0, 0),
    ]


def everything() -> list[tuple[int, int, int, int]]:
    """Return the BPF program for all packets."""
    return [(_RETURN, 0, 0, MAX_PACKET)]


def neighbour_discovery() -> list[tuple[int, int, int, int]]:
    """Return the BPF program for Neighbour Solicitations and Advertisements without extension headers."""
    return [
        (_LOAD_BYTE, 0, 0, 6),
        (_JUMP_EQUAL, 0, 3, socket.IPPROTO_ICMPV6),
        (_LOAD_BYTE, 0, 0, 40),
        (_JUMP_EQUAL, 2, 0, 135),
        (_JUMP_EQUAL, 1, 0, 136),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, MAX_PACKET),
    ]


class PacketReceiver:
    """A filtered, non-blocking packet socket for IPv6 or IPv4, on one interface or on all."""

    def __init__(
        self, program: list[tuple[int, int, int, int]], interface: str | None = None, protocol: int = ETH_P_IPV6
    ) -> None:
        """Open it. `protocol`: the Ethernet type. Raises OSError (no such interface, no permission)."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(protocol))
        attach_filter(self._socket, program)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(1):  # what arrived before the filter was attached
                pass
        if interface is not None:
            index = socket.if_nametoindex(interface)
            self._socket.bind((interface, protocol))
            request = struct.pack("iHH8s", index, PACKET_MR_ALLMULTI, 0, b"")
            self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)

    def fileno(self) -> int:
        """Return its descriptor, for selectors."""
        return self._socket.fileno()

    def packets(self) -> Iterator[bytes]:
        """Yield packets that have arrived, from the IP header on; at most BATCH."""
        return (data for data, _ in self.frames())

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the same, each with its sender's link-layer address."""
        for _ in range(BATCH):
            try:
                data, (_, _, kind, _, sender) = self._socket.recvfrom(MAX_PACKET)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENETDOWN:  # reported once when an interface goes down
                    continue
                raise
            if kind in (PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST):
                yield data, sender

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def send_packet(packet: bytes) -> None:
    """Send a whole IPv6 packet, routed by its destination and source. Raises OSError.

    The source must be one of our addresses. The socket is bound to it; otherwise the kernel would route by destination
    alone, and a mobile node's Binding Update would take the tunnel.
    """
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW) as raw:
        raw.bind((str(IPv6Address(packet[8:24])), 0))
        raw.sendto(packet, (str(IPv6Address(packet[24:40])), 0))


class LinkSender:
    """Sends IPv6 or IPv4 packets on one link, whatever source and route the kernel would choose."""

    def __init__(self, interface: str, protocol: int = ETH_P_IPV6) -> None:
        """Open a socket. `protocol`: the Ethernet type. Raises OSError."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._socket.settimeout(SEND_SECONDS)
        self._interface, self._protocol = interface, protocol

    @property
    def link_layer_address(self) -> bytes:
        """The interface's MAC address. Raises OSError."""
        # Not by a packet socket bound to it: closing one takes the kernel some 20 ms.
        request = struct.pack("16s24x", self._interface.encode())
        return fcntl.ioctl(self._socket, SIOCGIFHWADDR, request)[18:24]

    @property
    def has_carrier(self) -> bool:
        """Whether the interface is there, up, and has a carrier. Raises OSError."""
        request = struct.pack("16sH22x", self._interface.encode(), 0)
        try:
            flags = struct.unpack_from("H", fcntl.ioctl(self._socket, SIOCGIFFLAGS, request), 16)[0]
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return False
        return bool(flags & IFF_RUNNING)

    def multicast(self, packet: bytes) -> None:
        """Send an IPv6 packet to its multicast destination (RFC 2464, section 7). Raises OSError."""
        self.unicast(packet, b"\x33\x33" + packet[36:40])

    def unicast(self, packet: bytes, link_layer_address: bytes) -> None:
        """Send a packet to one link-layer address. Raises OSError."""
        self._socket.sendto(packet, (self._interface, self._protocol, 0, 0, link_layer_address))

    def close(self) -> None:
        """Close its socket."""
        self._socket.close()


class Guard:
    """An nftables table that drops packets received by packet sockets before the kernel answers them."""

    def __init__(self, table: str) -> None:
        self._table = table

    def setup(self, local: Iterable[str], arriving: Iterable[str] = (), leaving: Iterable[str] = ()) -> None:
        """Create or replace the table, atomically. It drops what any of these nft expressions matches.

        `local` applies to what is delivered locally, which packet sockets have received already (at prerouting they may
        not have: with br_netfilter, that hook runs for a bridge's port). `arriving` applies before routing, `leaving`
        after it. Raises NftError.
        """
        nft.load(None, self._clear() + self.ruleset(local, arriving, leaving))

    def ruleset(self, local: Iterable[str], arriving: Iterable[str] = (), leaving: Iterable[str] = ()) -> str:
        """Return the table as nft's input."""
        chains = _chain("input", local) + _chain("prerouting", arriving) + _chain("postrouting", leaving)
        return f"table ip6 {self._table} {{\n{chains}}}\n"

    def teardown(self) -> None:
        """Remove the table, if there is one. Raises NftError."""
        nft.load(None, self._clear())

    def _clear(self) -> str:
        return f"table ip6 {self._table}\ndelete table ip6 {self._table}\n"


def _chain(hook: str, matches: Iterable[str]) -> str:
    rules = "".join(f"{match} counter drop\n" for match in matches)
    return f"chain {hook} {{\ntype filter hook {hook} priority {GUARD_PRIORITY};\n{rules}}}\n" if rules else ""


def mobility_header_for(address: str) -> str:
    """Return the nft expression for Mobility Headers to an address, after any extension headers."""
    return f"ip6 daddr {address} meta l4proto 135"


def home_address_option_for(address: str) -> str:
    """Return the nft expression for a Home Address option in the first header, aligned at 8n+6, to an address."""
    return f"ip6 daddr {address} ip6 nexthdr 60 @nh,368,8 0xc9"
