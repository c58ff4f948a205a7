# SPDX-License-Identifier: Apache-2.0
"""Hear mobile nodes on access links, and answer them at their link-layer addresses."""

import fcntl
import socket
import struct
from collections.abc import Iterator

from hoaflow.linux import ETH_P_IP
from hoaflow.mobile_ipv4.messages import REGISTRATION_PORT
from hoaflow.mobile_ipv4.packets import BROADCAST_MAC, Ipv4Packet, for_foreign_agents, parse_ipv4, udp_packet
from hoaflow.mobility.packet_io import LinkSender, PacketReceiver
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.links import LinkError

SIOCGIFADDR = 0x8915
REPLY_TTL = 255


class AccessLink:
    """One access link's sockets."""

    def __init__(self, interface: str) -> None:
        """Open them. Raises OSError."""
        self.interface = interface
        self.receiver = PacketReceiver(for_foreign_agents(), interface, ETH_P_IP)
        self._sender = LinkSender(interface, ETH_P_IP)
        self._ioctl = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    @property
    def address(self) -> str:
        """The interface's IPv4 address. Raises OSError if it has none."""
        request = struct.pack("16s24x", self.interface.encode())
        return socket.inet_ntop(socket.AF_INET, fcntl.ioctl(self._ioctl, SIOCGIFADDR, request)[20:24])

    def packets(self) -> Iterator[Ipv4Packet]:
        """Yield solicitations and registrations that have arrived."""
        for data, mac in self.receiver.frames():
            if (packet := parse_ipv4(data, mac)) is not None:
                yield packet

    def send(self, packet: bytes, mac: bytes = BROADCAST_MAC) -> None:
        """Send a packet to one link-layer address, or to all. Raises OSError."""
        self._sender.unicast(packet, mac)

    def reply(self, message: bytes, destination: tuple[str, int], mac: bytes) -> None:
        """Send a Registration Reply to an address and port at a link-layer address. Raises OSError."""
        address, port = destination
        self.send(udp_packet(self.address, address, (REGISTRATION_PORT, port), message, REPLY_TTL), mac)

    def close(self) -> None:
        """Close them."""
        self.receiver.close()
        self._sender.close()
        self._ioctl.close()


class Usable:
    """An access link is up and has an IPv4 address, which its administrator gives it; so it is reported."""

    def __init__(self, interface: str) -> None:
        self._interface = interface

    def __str__(self) -> str:
        return f"access link {self._interface} up, with an IPv4 address"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        link = actual.links(None).get(self._interface)
        if link is None:
            return f"access link {self._interface} is missing"
        if not link.up:
            return f"access link {self._interface} is down"
        has = any(each.interface == link.number and ":" not in each.address for each in actual.addresses(None))
        return None if has else f"access link {self._interface} has no IPv4 address"

    def make(self) -> None:
        """See `Declared`."""
        raise LinkError(f"set it up: ip link set {self._interface} up; ip address add ADDRESS/LENGTH dev …")

    def remove(self) -> None:
        """See `Declared`."""
