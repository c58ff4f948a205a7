# SPDX-License-Identifier: Apache-2.0
"""Forge reverse-tunnel packets, as any host on a foreign link could, and listen for those that arrive.

    python3 spoof.py listen --port 5310
    python3 spoof.py send --outer CARE_OF_ADDRESS HOME_AGENT --inner HOME_ADDRESS CORRESPONDENT --label LABEL

Standard library only. IPv6 in IPv6 (RFC 2473), or IPv4 in IPv4 (RFC 2003), inside it UDP with the label as payload.
"""

import argparse
import signal
import socket
import struct
import sys
from types import FrameType

IPV6_HDRINCL = 36
HOP_LIMIT = 64
IP_IN_IP = 4


def ipv6(source: str, destination: str, next_header: int, payload: bytes) -> bytes:
    """Prepend an IPv6 header without extension headers to `payload`, with hop limit HOP_LIMIT."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, HOP_LIMIT) + addresses + payload


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """Prepend an IPv4 header without options to `payload`, with time to live HOP_LIMIT."""
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, HOP_LIMIT, protocol, 0) + addresses
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def checksum(data: bytes) -> int:
    """Compute the Internet checksum (RFC 1071), zero-padding data of odd length."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(source: str, destination: str, port: int, payload: bytes) -> bytes:
    """Return an IPv6 packet with a UDP datagram, checksum included (mandatory over IPv6: RFC 8200, 8.1)."""
    length = 8 + len(payload)
    pseudo = b"".join(socket.inet_pton(socket.AF_INET6, end) for end in (source, destination))
    pseudo += struct.pack("!II", length, socket.IPPROTO_UDP)
    sum_ = checksum(pseudo + struct.pack("!HHHH", port, port, length, 0) + payload) or 0xFFFF
    return ipv6(source, destination, socket.IPPROTO_UDP, struct.pack("!HHHH", port, port, length, sum_) + payload)


def tunnel_packet(outer: tuple[str, str], inner: tuple[str, str], port: int, payload: bytes) -> bytes:
    """Return a tunnel packet with a UDP datagram in it; `outer`, `inner`: source and destination, all of one family."""
    if ":" in outer[1]:
        return ipv6(*outer, socket.IPPROTO_IPV6, udp(*inner, port, payload))
    # Without a checksum, which is optional over IPv4 (RFC 768).
    datagram = struct.pack("!HHHH", port, port, 8 + len(payload), 0) + payload
    return ipv4(*outer, IP_IN_IP, ipv4(*inner, socket.IPPROTO_UDP, datagram))


def send(arguments: argparse.Namespace) -> None:
    """Send `count` forged packets by whatever route this node has to the outer destination, and print how many."""
    _, home_agent = arguments.outer
    family = socket.AF_INET6 if ":" in home_agent else socket.AF_INET
    packet = tunnel_packet(arguments.outer, arguments.inner, arguments.port, arguments.label.encode())
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        if family == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
        for _ in range(arguments.count):
            raw.sendto(packet, (home_agent, 0))
    print(f"event=sent label={arguments.label} packets={arguments.count}", flush=True)


def listen(arguments: argparse.Namespace) -> None:
    """Print a line for each packet that arrives, with its source and label, until a signal."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
        listener.bind(("::", arguments.port))
        print("event=ready", flush=True)
        while True:
            payload, source = listener.recvfrom(2048)
            print(f"event=arrived source={source[0]} label={payload.decode(errors='replace')}", flush=True)


def stop(_signal: int, _frame: FrameType | None) -> None:
    """Exit with status 0 on SIGTERM or SIGINT."""
    raise SystemExit(0)


def main(argv: list[str] | None = None) -> int:
    """Run the `send` or `listen` command."""
    parser = argparse.ArgumentParser(description="forged packets in a reverse tunnel")
    commands = parser.add_subparsers(required=True)
    sender = commands.add_parser("send")
    sender.add_argument("--outer", nargs=2, metavar=("SOURCE", "DESTINATION"), required=True)
    sender.add_argument("--inner", nargs=2, metavar=("SOURCE", "DESTINATION"), required=True)
    sender.add_argument("--label", required=True)
    sender.add_argument("--count", type=int, default=1)
    sender.set_defaults(run=send)
    listener = commands.add_parser("listen")
    listener.set_defaults(run=listen)
    for command in (sender, listener):
        command.add_argument("--port", type=int, default=5310)
    arguments = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    arguments.run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
