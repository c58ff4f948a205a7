# SPDX-License-Identifier: Apache-2.0
"""Detect duplicates and answer for mobile nodes on the home link (RFC 6275, section 10.4.1)."""

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator

from hoaflow.linux import AF_INET6
from hoaflow.mobility.neighbours import claimed_address, dad_solicitation, unsolicited_advertisement
from hoaflow.mobility.packet_io import LinkSender, PacketReceiver, neighbour_discovery
from hoaflow.mobility.proxying import ProxyingLink
from hoaflow.tunnel import links
from hoaflow.tunnel.actual_state import ActualState


class HomeLink(ProxyingLink):
    """The interface of the home link."""

    def __init__(self, interface: str, home_agent: str) -> None:
        """Open sockets on it. Raises OSError if there is no such interface."""
        super().__init__(interface, AF_INET6)
        self._home_agent = home_agent
        self._index = socket.if_nametoindex(interface)
        self._sender = LinkSender(interface)
        self.announced = self._sender.link_layer_address.hex(":")
        """The interface's MAC address as neighbours know it."""
        self.receiver = PacketReceiver(neighbour_discovery(), interface)

    @property
    def made_anew(self) -> bool:
        """Whether another interface has the name now, so that our sockets receive nothing any more."""
        return socket.if_nametoindex(self.interface) != self._index

    @property
    def has_carrier(self) -> bool:
        """Whether the interface is there, up, and has a carrier. Raises OSError if the kernel can't be asked."""
        return self._sender.has_carrier

    def rebind(self) -> None:
        """Move to the interface that has the name now. Raises OSError."""
        receiver = PacketReceiver(neighbour_discovery(), self.interface)
        self.receiver.close()
        self.receiver, self._index = receiver, socket.if_nametoindex(self.interface)

    def solicit(self, address: str) -> None:
        """Start duplicate address detection with one solicitation; `claims` yields answers. Raises OSError."""
        self._sender.multicast(dad_solicitation(address))

    def claims(self) -> Iterator[str]:
        """Yield addresses that other nodes have or are about to take, from what has arrived since the last call."""
        for packet in self.receiver.packets():
            if (address := claimed_address(packet)) is not None:
                yield address

    def wait_for_successor(self, seconds: float) -> bool:
        """Wait until others have announced the home agent's address and all that we answer for.

        Return False if no further one is announced for `seconds`.
        """
        missing, deadline = {self._home_agent, *self.wanted}, time.monotonic() + seconds
        while missing and (left := deadline - time.monotonic()) > 0:
            select.select([self.receiver], [], [], left)
            if announced := missing.intersection(self.claims()):
                missing -= announced
                deadline = time.monotonic() + seconds
        return not missing

    def defend(self, address: str) -> None:
        """Answer for an address from now on, and tell every node on the link. Idempotent. Raises OSError."""
        self.answer_for(address)
        mac = self._sender.link_layer_address
        self._sender.multicast(unsolicited_advertisement(self._home_agent, address, mac))

    def own_addresses(self) -> set[str]:
        """Return the interface's IPv6 addresses, without the home agent's. Raises LinkError."""
        with ActualState() as actual:
            index = actual.link(None, self.interface).number
            found = [each.address for each in actual.addresses(None) if each.interface == index]
        return {address for address in found if ":" in address and address != self._home_agent}

    def announce(self) -> None:
        """Tell every node on the link our MAC address, for all addresses that we have or answer for. Raises OSError."""
        self._announce_own([self._home_agent, *self.own_addresses()])
        self.announce_mobile_nodes()
        self.announced = self._sender.link_layer_address.hex(":")

    def announce_home_agent(self) -> None:
        """Tell every node on the link our MAC address for the home agent's address. Raises OSError."""
        self._announce_own([self._home_agent])

    def announce_mobile_nodes(self) -> None:
        """Tell every node on the link our MAC address for all addresses that we answer for. Raises OSError."""
        mac = self._sender.link_layer_address
        for address in self.wanted:
            self._sender.multicast(unsolicited_advertisement(self._home_agent, address, mac))

    def close(self) -> None:
        """Close its sockets."""
        self.receiver.close()
        self._sender.close()
        super().close()

    def _announce_own(self, own: Iterable[str]) -> None:
        mac = self._sender.link_layer_address
        for address in own:
            self._sender.multicast(unsolicited_advertisement(address, address, mac, router=True))


class Bound:
    """Our sockets are on the interface that has the home link's name."""

    def __init__(self, home_link: HomeLink, rebind: Callable[[], None]) -> None:
        self._home_link, self._rebind = home_link, rebind

    def __str__(self) -> str:
        return f"sockets on {self._home_link.interface}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        actual.link(None, self._home_link.interface)
        return f"home link {self._home_link.interface} was made anew" if self._home_link.made_anew else None

    def make(self) -> None:
        """See `Declared`."""
        self._rebind()

    def remove(self) -> None:
        """See `Declared`."""


class AnnouncedMac:
    """Neighbours know the MAC address of the home link.

    A bridge may change its address when a port is added. Neighbours would send to the old one until they find it
    unreachable, seconds later.
    """

    def __init__(self, home_link: HomeLink) -> None:
        self._home_link = home_link

    def __str__(self) -> str:
        return f"MAC address of {self._home_link.interface} announced"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        mac = actual.link(None, self._home_link.interface).mac
        changed = mac != self._home_link.announced
        return f"the MAC address of {self._home_link.interface} has become {mac}" if changed else None

    def make(self) -> None:
        """See `Declared` (RFC 4861, section 7.2.6)."""
        self._home_link.announce()

    def remove(self) -> None:
        """See `Declared`."""


class LinkLocalAddress:
    """The home link has a link-local address, from which the kernel solicits neighbours and answers for others.

    The kernel assigns one when a link goes up, but not again after somebody has removed it (`ip addr flush`).
    """

    def __init__(self, interface: str) -> None:
        self._interface = interface

    def __str__(self) -> str:
        return f"link-local address on {self._interface}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        index = actual.link(None, self._interface).number
        found = [a for a in actual.addresses(None) if a.interface == index and a.address.startswith("fe80:")]
        return None if found else f"{self._interface} has no link-local address"

    def make(self) -> None:
        """Assign the one that the kernel would, made from the MAC address (RFC 4291, appendix A)."""
        with ActualState() as actual:
            mac = bytes.fromhex(actual.link(None, self._interface).mac.replace(":", ""))
        identifier = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
        address = socket.inet_ntop(socket.AF_INET6, b"\xfe\x80" + bytes(6) + identifier)
        links.add_address(None, self._interface, address, 64)

    def remove(self) -> None:
        """See `Declared`."""
