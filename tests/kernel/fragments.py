# SPDX-License-Identifier: Apache-2.0
"""Send a UDP datagram in a tunnel, the tunnel packet in fragments (RFC 8200 section 4.5). Standard library only.

python -m tests.kernel.fragments CARE_OF_ADDRESS HOME_AGENT HOME_ADDRESS CORRESPONDENT PORT BYTES
"""

import socket
import struct
import sys

from topologies.spoof import IPV6_HDRINCL, ipv6, udp

FRAGMENT = 1232  # octets, a multiple of 8
IDENTIFICATION = 0x680A


def fragments(source: str, destination: str, payload: bytes) -> list[bytes]:
    """Return the packets that carry an IPv6 packet in a tunnel, none of them with all of it."""
    packets = []
    for offset in range(0, len(payload), FRAGMENT):
        more = offset + FRAGMENT < len(payload)
        header = struct.pack("!BxHI", socket.IPPROTO_IPV6, offset | more, IDENTIFICATION)
        part = header + payload[offset : offset + FRAGMENT]
        packets.append(ipv6(source, destination, socket.IPPROTO_FRAGMENT, part))
    return packets


def main(care_of_address: str, home_agent: str, home_address: str, correspondent: str, port: str, length: str) -> None:
    """Send it."""
    inner = udp(home_address, correspondent, int(port), bytes(int(length)))
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
        for packet in fragments(care_of_address, home_agent, inner):
            raw.sendto(packet, (home_agent, 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
