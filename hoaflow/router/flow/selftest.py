# SPDX-License-Identifier: Apache-2.0
"""Send a packet through the whole tunnel: OpenFlow → transmit port → ip6tnl → kernel → ip6tnl → receive port.

It is sent by packet-out, with the router's own decapsulation address as the tunnel's far end, so it comes back, and a
packet socket sees it where it enters Open vSwitch again. It does not leave the host: its outer source is no home agent,
and its inner source no home address, so `verify` drops it, or the kernel if there are no flows yet.
"""

import ipaddress
import os
import secrets
import select
import socket
import struct
import time

from hoaflow.linux import ETH_P_ALL, ETH_P_IPV6
from hoaflow.router.endpoint import TOUT_SIDE_IPV4
from hoaflow.router.errors import RouterError
from hoaflow.router.flow.packet_out import packet_out
from hoaflow.router.flow.record import FlowRecord
from hoaflow.router.probes import NO_PROTOCOL, frame, ipv4

TIMEOUT = 5.0  # seconds
UDP = 17
DISCARD = 9  # RFC 863
TOKEN_BYTES = 16


def round_trip(record: FlowRecord, bridge: str, db: str | None) -> str | None:
    """Send the packet; returns None if it came back, else why not. Raises RouterError without root."""
    decapsulation = ipaddress.ip_address(record.decapsulation_address)
    token = secrets.token_bytes(TOKEN_BYTES)
    if record.is_ipv4:
        # From the kernel's own address, which it does not forward.
        outer_source, fields = str(decapsulation), "tun"
        packet = frame(record.mac, ipv4(str(decapsulation), TOUT_SIDE_IPV4, NO_PROTOCOL, token))
    else:
        outer_source, fields = str(decapsulation + 1), "tun_ipv6"
        packet = _packet(str(decapsulation + 2), str(decapsulation + 3), token)
    actions = (
        f"set_field:{outer_source}->{fields}_src,set_field:{decapsulation}->{fields}_dst,output:{record.transmit_port}"
    )
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as receiver:
            # For all protocols: a socket for one would get packets only after Open vSwitch, which takes them.
            receiver.bind((record.receive_device, ETH_P_ALL))
            packet_out(bridge, db, packet, actions)
            deadline = time.monotonic() + TIMEOUT
            while (left := deadline - time.monotonic()) > 0:
                if select.select([receiver], [], [], left)[0] and token in receiver.recv(2048):
                    return None
    except PermissionError as error:
        raise RouterError("root is needed for a self-test packet") from error
    except OSError as error:
        return f"{record.receive_device}: {os.strerror(error.errno or 0)}"
    return f"it left by {record.transmit_port} and did not come back at {record.receive_device} within {TIMEOUT:g} s"


def _packet(source: str, destination: str, payload: bytes) -> bytes:
    """Return an Ethernet frame with an IPv6 UDP datagram."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    length = 8 + len(payload)
    udp = struct.pack("!HHHH", DISCARD, DISCARD, length, 0) + payload
    words = addresses + struct.pack("!II", length, UDP) + udp
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    udp = struct.pack("!HHHH", DISCARD, DISCARD, length, ~total & 0xFFFF or 0xFFFF) + payload
    header = struct.pack("!IHBB", 6 << 28, length, UDP, 64) + addresses
    return bytes.fromhex("020000000001020000000002") + struct.pack("!H", ETH_P_IPV6) + header + udp
