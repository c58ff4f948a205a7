# SPDX-License-Identifier: Apache-2.0
"""Make the packets that benchmarks send through routers."""

import socket
import struct

IPV6, UDP, HOP_LIMIT = 0x86DD, 17, 64
ETHERNET = struct.Struct("!6s6sH")
IPV6_HEADER = struct.Struct("!IHBB16s16s")
DATAGRAM = struct.pack("!HHHH", 4000, 4000, 8, 0)


def frame(home_address: str) -> bytes:
    """Return a correspondent node's packet for a home address, in an Ethernet frame."""
    source, destination = (socket.inet_pton(socket.AF_INET6, each) for each in ("2001:db8:c::1", home_address))
    ethernet = ETHERNET.pack(bytes.fromhex("020000000001"), bytes.fromhex("020000000009"), IPV6)
    return ethernet + IPV6_HEADER.pack(6 << 28, len(DATAGRAM), UDP, HOP_LIMIT, source, destination) + DATAGRAM
