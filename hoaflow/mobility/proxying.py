# SPDX-License-Identifier: Apache-2.0
"""Have the kernel answer for mobile nodes on the home link, by proxy ARP or proxy neighbour discovery."""

import contextlib
import errno
import socket

from pyroute2 import IPRoute, NetlinkError

from hoaflow.linux import NDA_DST, NDA_PROTOCOL, RTM_GETNEIGH
from hoaflow.mobility.binding_objects import OWNER
from hoaflow.tunnel.actual_state import NDMSG as NEIGHBOUR
from hoaflow.tunnel.rtnetlink import RouteSocket, attributes

NTF_PROXY = 0x08


class ProxyingLink:
    """The home link as the kernel answers on it for addresses of one family. Its entries have protocol number OWNER.

    The interface may be made anew under its name, with another index.
    """

    def __init__(self, interface: str, family: int) -> None:
        """Open a socket. Raises OSError. `family`: AF_INET or AF_INET6."""
        self.interface = interface
        self.wanted: set[str] = set()
        """Addresses to answer for. Callers of `answer_for` and `release` keep this up to date."""
        self._family = family
        self._netlink = IPRoute()
        self._listed_at = 0  # the interface's index when entries were last listed

    def answer_for(self, address: str) -> None:
        """Have the kernel answer for an address from now on. Idempotent. Raises OSError."""
        self._proxy("replace", address)

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
        self._listed_at = next(iter(self._netlink.link_lookup(ifname=self.interface)), 0)
        # pyroute2's dump of neighbours omits the flag that asks for proxy entries.
        with contextlib.closing(RouteSocket()) as netlink:
            return list(netlink.listing(RTM_GETNEIGH, NEIGHBOUR.pack(self._family, 0, 0, NTF_PROXY, 0)))

    def proxied(self, entry: bytes) -> str | None:
        """Return the address of one of our entries, as last listed; None if it is another's, or of another link."""
        facts = dict(attributes(entry[NEIGHBOUR.size :]))
        if NEIGHBOUR.unpack_from(entry)[1] != self._listed_at or facts.get(NDA_PROTOCOL) != bytes([OWNER]):
            return None
        return socket.inet_ntop(self._family, facts[NDA_DST])

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def _proxy(self, verb: str, address: str) -> None:
        index = socket.if_nametoindex(self.interface)
        try:
            self._netlink.neigh(verb, dst=address, ifindex=index, flags=NTF_PROXY, protocol=OWNER, family=self._family)
        except NetlinkError as error:
            raise OSError(error.code, f"proxy entry for {address} on {self.interface}: {error}") from error
