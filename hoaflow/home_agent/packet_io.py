# SPDX-License-Identifier: Apache-2.0
"""Sockets that see and send Mobile IPv6 packets whether or not the kernel has CONFIG_IPV6_MIP6.

Without it the kernel answers a Home Address option, or a type 2 routing header, with an ICMPv6 Parameter Problem and
gives the packet to nobody. So packets are taken by packet sockets, before the kernel's IPv6; an nftables table of our
own then drops exactly these, so that the kernel stays quiet.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address

from hoaflow.linux import ETH_P_IPV6, SOL_PACKET
from hoaflow.tunnel import nft

PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST = 0, 1, 2
SO_ATTACH_FILTER = 26
PACKET_ADD_MEMBERSHIP, PACKET_MR_ALLMULTI = 1, 2
SIOCGIFHWADDR = 0x8927
MAX_PACKET = 65575
GUARD_PRIORITY = -310
BATCH = 64
"""Packets taken at one go, so that a flood does not keep the loop from its other sockets."""
SEND_SECONDS = 1.0
"""How long a packet waits for room in a link's queue, which thousands of advertisements at once fill."""

_LOAD_BYTE, _LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x30, 0x20, 0x15, 0x06


def attach_filter(sock: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    """Attaches a classic BPF program (code, jump-true, jump-false, constant) to a packet socket."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HL", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)


def addressed_to(destination: str, next_headers: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """BPF: IPv6 packets to an address whose first next header is one of these."""
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


def neighbour_discovery() -> list[tuple[int, int, int, int]]:
    """BPF: Neighbour Solicitations and Advertisements without extension headers."""
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
    """A packet socket for IPv6, filtered, on one interface or on all. Non-blocking; close() when done."""

    def __init__(self, program: list[tuple[int, int, int, int]], interface: str | None = None) -> None:
        """Raises OSError (no such interface, no permission)."""
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETH_P_IPV6)
        )
        attach_filter(self._socket, program)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(1):  # what came before the filter was in place
                pass
        if interface is not None:
            index = socket.if_nametoindex(interface)
            self._socket.bind((interface, ETH_P_IPV6))
            request = struct.pack("iHH8s", index, PACKET_MR_ALLMULTI, 0, b"")
            self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)

    def fileno(self) -> int:
        return self._socket.fileno()

    def packets(self) -> Iterator[bytes]:
        """What has come in: each packet once, from its IPv6 header on. At most BATCH."""
        for _ in range(BATCH):
            try:
                data, (_, _, kind, _, _) = self._socket.recvfrom(MAX_PACKET)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENETDOWN:  # told once when an interface goes down
                    continue
                raise
            if kind in (PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST):
                yield data

    def close(self) -> None:
        self._socket.close()


def send_packet(packet: bytes) -> None:
    """Sends a whole IPv6 packet; the kernel routes it by its destination and source. Raises OSError.

    The source has to be an address of ours. A socket each time, bound to it: else the kernel would route by
    destination alone, and a mobile node's Binding Update would take the tunnel.
    """
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW) as raw:
        raw.bind((str(IPv6Address(packet[8:24])), 0))
        raw.sendto(packet, (str(IPv6Address(packet[24:40])), 0))


class LinkSender:
    """Sends IPv6 multicast on one link, past the kernel's own choice of source and route."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._socket.settimeout(SEND_SECONDS)
        self._interface = interface

    @property
    def link_layer_address(self) -> bytes:
        """The interface's MAC address. Raises OSError."""
        # Not by a packet socket that is bound to it: to close one takes the kernel some 20 ms.
        request = struct.pack("16s24x", self._interface.encode())
        return fcntl.ioctl(self._socket, SIOCGIFHWADDR, request)[18:24]

    def multicast(self, packet: bytes) -> None:
        """Sends a packet to its multicast destination (RFC 2464, section 7). Raises OSError."""
        ethernet = b"\x33\x33" + packet[36:40]
        self._socket.sendto(packet, (self._interface, ETH_P_IPV6, 0, 0, ethernet))

    def close(self) -> None:
        self._socket.close()


class Guard:
    """An nftables table that drops the packets which packet sockets have taken, before the kernel answers them."""

    def __init__(self, table: str) -> None:
        self._table = table

    def setup(self, local: Iterable[str], arriving: Iterable[str] = (), leaving: Iterable[str] = ()) -> None:
        """(Re)creates the table, all or nothing; it drops what any of these nft matches fits. Raises NftError.

        `local`: on its way to the kernel's own IPv6, when packet sockets have it already. (Not at prerouting: with
        br_netfilter that is run for a bridge's port, before the packet sockets.) `arriving`: before routing.
        """
        nft.load(None, self._clear() + self.ruleset(local, arriving, leaving))

    def ruleset(self, local: Iterable[str], arriving: Iterable[str] = (), leaving: Iterable[str] = ()) -> str:
        """Return the table in nft's own language."""
        chains = _chain("input", local) + _chain("prerouting", arriving) + _chain("postrouting", leaving)
        return f"table ip6 {self._table} {{\n{chains}}}\n"

    def teardown(self) -> None:
        """Removes the table, if it is there. Raises NftError."""
        nft.load(None, self._clear())

    def _clear(self) -> str:
        return f"table ip6 {self._table}\ndelete table ip6 {self._table}\n"


def _chain(hook: str, matches: Iterable[str]) -> str:
    rules = "".join(f"{match} counter drop\n" for match in matches)
    return f"chain {hook} {{\ntype filter hook {hook} priority {GUARD_PRIORITY};\n{rules}}}\n" if rules else ""


def mobility_header_for(address: str) -> str:
    """Nft match: a Mobility Header for an address, whatever extension headers come before it."""
    return f"ip6 daddr {address} meta l4proto 135"


def home_address_option_for(address: str) -> str:
    """Nft match: a Home Address option where its alignment puts it (8n+6), in the first header, for an address."""
    return f"ip6 daddr {address} ip6 nexthdr 60 @nh,368,8 0xc9"
