# SPDX-License-Identifier: Apache-2.0
"""Discover foreign agents on a link (RFC 5944, section 2.4): solicit them, and hear their advertisements."""

from collections.abc import Iterator
from typing import NamedTuple

from hoaflow.linux import ETH_P_IP
from hoaflow.mobile_ipv4.advertisements import (
    ADVERTISEMENT,
    AgentAdvertisement,
    AgentFlag,
    parse_advertisement,
    solicitation_packet,
)
from hoaflow.mobile_ipv4.packets import BROADCAST_MAC, icmp_messages, parse_ipv4
from hoaflow.mobility.packet_io import LinkSender, PacketReceiver

SOLICIT_SECONDS = 1.0
"""Seconds between solicitations until an agent is heard."""


class ForeignAgent(NamedTuple):
    """A foreign agent on the link, by its latest advertisement."""

    advertisement: AgentAdvertisement
    mac: bytes

    @property
    def care_of_address(self) -> str:
        """The care-of address that it offers first."""
        return self.advertisement.care_of_addresses[0]

    def is_other_than(self, known: "ForeignAgent | None") -> bool:
        """Tell whether a mobile node has to register: with this one at first, or again as it has started anew."""
        if known is None or self.advertisement.source != known.advertisement.source:
            return True
        return self.advertisement.sequence < min(known.advertisement.sequence, 256)


class AgentDiscovery:
    """The sockets on one link."""

    def __init__(self, interface: str) -> None:
        """Open them. Raises OSError."""
        self.interface = interface
        self._receiver = PacketReceiver(icmp_messages(ADVERTISEMENT), interface, ETH_P_IP)
        self._sender = LinkSender(interface, ETH_P_IP)

    def fileno(self) -> int:
        """Return the descriptor, for selectors."""
        return self._receiver.fileno()

    def solicit(self, home_address: str) -> None:
        """Ask for agents. Raises OSError."""
        self._sender.unicast(solicitation_packet(home_address), BROADCAST_MAC)

    def heard(self) -> Iterator[ForeignAgent]:
        """Yield foreign agents that have advertised themselves."""
        for data, mac in self._receiver.frames():
            packet = parse_ipv4(data, mac)
            found = None if packet is None else parse_advertisement(packet)
            if found is not None and AgentFlag.FOREIGN_AGENT in found.flags and found.care_of_addresses:
                yield ForeignAgent(found, mac)

    def close(self) -> None:
        """Close them."""
        self._receiver.close()
        self._sender.close()
