# SPDX-License-Identifier: Apache-2.0
"""Answer for mobile nodes on the home link, by proxy and gratuitous ARP (RFC 5944, section 4.6)."""

import fcntl
import socket
import struct

from hoaflow.linux import AF_INET
from hoaflow.mobility.proxying import ProxyingLink

ETH_P_ARP, SIOCGIFHWADDR = 0x0806, 0x8927
BROADCAST = b"\xff" * 6
ARP = struct.Struct("!HHBBH6s4s6s4s")
ETHERNET, IPV4, REQUEST = 1, 0x0800, 1


class HomeLink(ProxyingLink):
    """The interface of the home link."""

    def __init__(self, interface: str) -> None:
        """Open sockets. Raises OSError."""
        super().__init__(interface, AF_INET)
        self._sender = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)

    def defend(self, address: str) -> None:
        """Answer for an address from now on, and tell every node on the link. Idempotent. Raises OSError."""
        self.answer_for(address)
        self.announce(address)

    def announce(self, address: str) -> None:
        """Tell every node on the link that an address is at our MAC address: gratuitous ARP. Raises OSError."""
        request = struct.pack("16s24x", self.interface.encode())
        mac = fcntl.ioctl(self._sender, SIOCGIFHWADDR, request)[18:24]
        packed = socket.inet_pton(socket.AF_INET, address)
        message = ARP.pack(ETHERNET, IPV4, len(mac), len(packed), REQUEST, mac, packed, bytes(6), packed)
        self._sender.sendto(message, (self.interface, ETH_P_ARP, 0, 0, BROADCAST))

    def close(self) -> None:
        """Close its sockets."""
        self._sender.close()
        super().close()
