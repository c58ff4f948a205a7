# SPDX-License-Identifier: Apache-2.0
"""Ethernet frames, sent and seen as they are on the wire."""

from __future__ import annotations

import socket

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    MIP6MH_HoTI,
    PadN,
)
from scapy.layers.l2 import Ether

from hoaflow.linux import ETH_P_ALL
from hoaflow.tunnel.namespace import Namespace, in_namespace
from topologies.waiting import patient

HOA, CN, HOA4 = "2001:db8:99::100", "2001:db8:1::2", "10.99.0.100"

# What a mobile node sends through its tunnel that is for the home agent itself to take, or to pass on.
LEFT_TO_THE_HOME_AGENT = {
    "Home Test Init": IPv6(src=HOA, dst=CN) / MIP6MH_HoTI(cookie=b"testcook"),
    "Home Test Init behind destination options": IPv6(src=HOA, dst=CN)
    / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(20))])
    / MIP6MH_HoTI(cookie=b"testcook"),
    "Home Test Init behind hop-by-hop options": IPv6(src=HOA, dst=CN)
    / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
    / MIP6MH_HoTI(cookie=b"testcook"),
    "Home Test Init behind a routing header": IPv6(src=HOA, dst=CN)
    / IPv6ExtHdrRouting(addresses=[CN], segleft=0)
    / MIP6MH_HoTI(cookie=b"testcook"),
    "Home Test Init behind two extension headers": IPv6(src=HOA, dst=CN)
    / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(12))])
    / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))])
    / MIP6MH_HoTI(cookie=b"testcook"),
    "multicast": IPv6(src=HOA, dst="ff0e::1") / UDP(dport=5004) / b"to a group",
    "link-local": IPv6(src=HOA, dst="fe80::1:2") / UDP(dport=547) / b"to a neighbour of the home link",
    "Home Test Init from a link-local address": IPv6(src="fe80::99", dst=CN) / MIP6MH_HoTI(cookie=b"testcook"),
    "a report of multicast listening": IPv6(src="fe80::99", dst="ff02::16", hlim=1) / ICMPv6MLReport2(),
    "IPv4 multicast": IP(src=HOA4, dst="239.1.2.3") / UDP(dport=5004) / b"to an IPv4 group",
    "IPv4 link-local": IP(src=HOA4, dst="169.254.0.9") / UDP(dport=5004) / b"to a neighbour",
    "IPv4 broadcast": IP(src=HOA4, dst="255.255.255.255") / UDP(dport=67) / b"to the home link",
}

# The same, as it is sent while an address is tentative (RFC 3590); the kernel's collect-metadata ip6tnl drops it.
WITHOUT_SOURCE = {"a report without a source": IPv6(src="::", dst="ff02::16", hlim=1) / ICMPv6MLReport2()}


def ends_of(frame: bytes) -> list[tuple[str, str]]:
    """Return source and destination of all IP headers of a frame, the outer ones first."""
    packet, found = Ether(frame).payload, []
    while isinstance(packet, IP | IPv6):
        found.append((packet.src, packet.dst))
        packet = packet.payload
    return found


class Tap:
    """An interface that is listened to."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def await_frames(self, content: bytes, count: int) -> list[bytes]:
        """Return the first `count` frames from the network that contain `content`. Raises TimeoutError."""
        found: list[bytes] = []
        self._listener.settimeout(patient(20))
        while len(found) < count:
            frame, (_, _, kind, *_) = self._listener.recvfrom(1 << 16)
            if kind != socket.PACKET_OUTGOING and content in frame:
                found.append(frame)
        return found


def packet_socket(namespace: Namespace, interface: str) -> socket.socket:
    """Return a packet socket on an interface of a namespace."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.bind((interface, ETH_P_ALL))
        return made

    return in_namespace(namespace, make)
