# SPDX-License-Identifier: Apache-2.0
"""Answer for mobile nodes on the home link, by proxy and gratuitous ARP (RFC 5944, section 4.6)."""

import contextlib
import errno
import fcntl
import socket
import struct

from pyroute2 import IPRoute, NetlinkError

from hoaflow.linux import AF_INET, NDA_DST, RTM_GETNEIGH
from hoaflow.mobility.binding_objects import OWNER
from hoaflow.tunnel.actual_state import NDMSG as NEIGHBOUR
from hoaflow.tunnel.rtnetlink import RouteSocket, attributes

NTF_PROXY, NDA_PROTOCOL = 0x08, 12
ETH_P_ARP, SIOCGIFHWADDR = 0x0806, 0x8927
BROADCAST = b"\xff" * 6
ARP = struct.Struct("!HHBBH6s4s6s4s")
ETHERNET, IPV4, REQUEST = 1, 0x0800, 1


class HomeLink:
    """The interface of the home link. Whatever this leaves in the kernel has protocol number OWNER."""

    def __init__(self, interface: str) -> None:
        """Open sockets. Raises OSError."""
        self.interface = interface
        self.wanted: set[str] = set()
        """Addresses to answer for. Callers of `defend` and `release` keep this up to date."""
        self._netlink = IPRoute()
        self._sender = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)

    def defend(self, address: str) -> None:
        """Answer for an address from now on, and tell every node on the link. Idempotent. Raises OSError."""
        self._proxy("replace", address)
        self.announce(address)

    def announce(self, address: str) -> None:
        """Tell every node on the link that an address is at our MAC address: gratuitous ARP. Raises OSError."""
        request = struct.pack("16s24x", self.interface.encode())
        mac = fcntl.ioctl(self._sender, SIOCGIFHWADDR, request)[18:24]
        packed = socket.inet_pton(socket.AF_INET, address)
        message = ARP.pack(ETHERNET, IPV4, len(mac), len(packed), REQUEST, mac, packed, bytes(6), packed)
        self._sender.sendto(message, (self.interface, ETH_P_ARP, 0, 0, BROADCAST))

    def release(self, address: str) -> None:
        """Stop answering for an address; fine if it was not answered for. Raises OSError."""
        try:
            self._proxy("del", address)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def defended(self) -> set[str]:
        """Return the addresses of our proxy entries in the kernel. Raises OSError."""
        return {address for entry in self.listed() if (address := self.proxied(entry)) is not None}

    def listed(self) -> list[bytes]:
        """Return the kernel's proxy entries, unparsed, as parsing many takes long: see `proxied`. Raises OSError."""
        with contextlib.closing(RouteSocket()) as netlink:
            return list(netlink.listing(RTM_GETNEIGH, NEIGHBOUR.pack(AF_INET, 0, 0, NTF_PROXY, 0)))

    def proxied(self, entry: bytes) -> str | None:
        """Return the address of one of our entries; None if it is somebody else's, or of another link."""
        facts = dict(attributes(entry[NEIGHBOUR.size :]))
        interface = NEIGHBOUR.unpack_from(entry)[1]
        if interface != socket.if_nametoindex(self.interface) or facts.get(NDA_PROTOCOL) != bytes([OWNER]):
            return None
        return socket.inet_ntop(socket.AF_INET, facts[NDA_DST])

    def close(self) -> None:
        """Close its sockets."""
        self._sender.close()
        self._netlink.close()

    def _proxy(self, verb: str, address: str) -> None:
        index = socket.if_nametoindex(self.interface)
        try:
            self._netlink.neigh(
                verb, dst=address, ifindex=index, flags=NTF_PROXY, protocol=OWNER, family=socket.AF_INET
            )
        except NetlinkError as error:
            raise OSError(error.code, f"proxy entry for {address} on {self.interface}: {error}") from error
