# SPDX-License-Identifier: Apache-2.0
"""Make the packets with which `hoaflow.router.firewall` tries the packet filter in front of a tunnel endpoint.

Their source and destination are the home agent's address, a pair that no other packet has.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator

from hoaflow.linux import ETH_P_IP, ETH_P_IPV6
from hoaflow.router.endpoint import KERNEL_SIDE_IPV4, TOUT, Endpoint
from hoaflow.router.endpoint_routes import carries
from hoaflow.router.errors import RouterError
from hoaflow.router.firewall import Probe, Send
from hoaflow.router.flow.kernel import TUNNEL_MAC
from hoaflow.router.packet_filter import FORWARD_CHAIN, PROBE_CHAIN, PROBE_INNER, PROBE_TCP
from hoaflow.tunnel import links
from hoaflow.tunnel.namespace import in_namespace

LEAVES_THE_TUNNEL = "what leaves the tunnel"

SYN_ACK, HOP_LIMIT = 0x12, 64
IPV6_HEADER, IPV4_HEADER, TCP_HEADER = 40, 20, 20  # octets
NO_PROTOCOL = 59  # IPv6's No Next Header, which no host takes for a protocol


def endpoint_probes(endpoint: Endpoint) -> list[Probe]:
    """Return the probes for what an endpoint hands to the router's kernel. Raises RouterError, NamespaceError."""
    kernel_side = links.link(endpoint.kernel_namespace, endpoint.kernel_port)
    if kernel_side is None:
        raise RouterError(f"interface {endpoint.kernel_port} is missing")
    address = endpoint.home_agent
    payloads = {LEAVES_THE_TUNNEL: answer(address, address), **_tunnel_packets(endpoint)}

    @contextlib.contextmanager
    def sender(packet: bytes) -> Iterator[Send]:
        with in_namespace(endpoint.namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as link:
            link.bind((TOUT, 0))
            yield lambda: link.send(frame(kernel_side["mac"], packet))

    return [
        Probe(
            what,
            len(packet) - (0 if endpoint.is_ipv4 else IPV6_HEADER),
            endpoint.namespace,
            FORWARD_CHAIN,
            PROBE_CHAIN,
            address,
            'accept packets from hfk-*, for example: nft insert rule inet filter forward iifname "hfk-*" accept',
            lambda packet=packet: sender(packet),  # type: ignore[misc]
        )
        for what, packet in payloads.items()
    ]


def _tunnel_packets(endpoint: Endpoint) -> dict[str, bytes]:
    """Return a tunnel packet for each family of home addresses that an endpoint carries, by what it is.

    A packet filter may drop one payload alone. Lengths differ from each other's and the answer's.
    """
    address = endpoint.home_agent
    payloads = {
        ("ipv6", socket.IPPROTO_IPV6): ipv6(PROBE_INNER, PROBE_INNER, NO_PROTOCOL, b""),
        ("ipv4", socket.IPPROTO_IPIP): ipv4(KERNEL_SIDE_IPV4, KERNEL_SIDE_IPV4, NO_PROTOCOL, bytes(4)),
    }
    outer, number_of = (ipv4, "IPv4 protocol") if endpoint.is_ipv4 else (ipv6, "IPv6 next header")
    return {
        f"tunnel packets to care-of addresses ({number_of} {number})": outer(address, address, number, inner)
        for (family, number), inner in payloads.items()
        if (family == "ipv4") == endpoint.is_ipv4 or carries(endpoint.namespace, family)
    }


def answer(source: str, destination: str) -> bytes:
    """Return a packet like those that leave a tunnel: the second one of a new TCP connection."""
    source_port, destination_port, sequence, acknowledged = PROBE_TCP
    ports = struct.pack("!HHII", source_port, destination_port, sequence, acknowledged)
    segment = ports + struct.pack("!BBHHH", 5 << 4, SYN_ACK, 1024, 0, 0)
    packet = ipv6 if ":" in source else ipv4
    return packet(source, destination, socket.IPPROTO_TCP, segment)


def ipv6(source: str, destination: str, next_header: int, payload: bytes) -> bytes:
    """Return an IPv6 packet."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, HOP_LIMIT) + addresses + payload


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 packet."""
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    length = IPV4_HEADER + len(payload)
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, HOP_LIMIT, protocol, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", checksum) + addresses + payload


def frame(mac: str, packet: bytes) -> bytes:
    """Return an Ethernet frame with a packet, from the address that what leaves the tunnels has."""
    header = bytes.fromhex(mac.replace(":", "") + TUNNEL_MAC.replace(":", ""))
    return header + struct.pack("!H", ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP) + packet
