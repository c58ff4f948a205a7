# SPDX-License-Identifier: Apache-2.0
"""Hold the packets of mobile nodes that are between two links, and send them on: to the next link, or elsewhere."""

import socket
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address

from hoaflow.mobile_access_gateway.attachments import Attachment, State
from hoaflow.mobile_access_gateway.data_plane import HELD, first_octets
from hoaflow.mobile_access_gateway.held_packets import DESTINATION, HeldPackets
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.packet_io import PacketReceiver, everything
from hoaflow.tunnel.spoofing_filter import IPV6_MARK

MULTICAST = 0xFF
"""First octet of a multicast address."""
REDELIVERY_SECONDS = 0.05
"""After so long, packets that were held while their mobile node is served are delivered."""


class PacketHold:
    """The packets that the kernel leads to the hold link.

    `attachment_to` returns the attachment of the mobile node with a home network prefix, by the prefix's first 8
    octets. `redelivery`: when to call `redeliver` (monotonic seconds), None for not at all.
    """

    def __init__(
        self, held: HeldPackets, attachment_to: Callable[[bytes], Attachment | None], counts: MessageCounts
    ) -> None:
        """Open the sockets to send by. Raises OSError without permission."""
        self._held, self._attachment_to, self._counts = held, attachment_to, counts
        self.receiver: PacketReceiver | None = None
        self.redelivery: float | None = None
        self._served: dict[str, Attachment] = {}  # those whose packets are to be delivered once more
        # Never bound, so the kernel's rules alone route what is sent, whatever its source.
        self._elsewhere = _opened(0)
        self._to_links = _opened(IPV6_MARK)

    def bind(self) -> PacketReceiver:
        """Open a socket on the hold link that is there now, and return it. Raises OSError."""
        self.receiver = PacketReceiver(everything(), HELD)
        return self.receiver

    def unbind(self) -> None:
        """Close the socket on the hold link; fine if there is none."""
        if self.receiver is not None:
            self.receiver.close()
        self.receiver = None

    def take(self) -> None:
        """Hold what has come to the hold link, or send it elsewhere at once if its mobile node is there."""
        for packet in self.receiver.packets() if self.receiver is not None else ():
            known = self._attachment_to(packet[DESTINATION])
            if known is None or known.state is State.LEAVING:
                if packet[24] != MULTICAST:  # the kernel's own, on every link
                    self._counts.drop("not_attached", "to %s", IPv6Address(packet[24:40]))
            elif known.state is State.FORWARDING:
                self._send([packet], self._elsewhere)
            else:
                self._held.hold(packet)
                if known.state is State.SERVED:
                    # It came in just before the route to the link was there, or just after the link went down.
                    self._served[known.node.identifier] = known
                    self.redelivery = self.redelivery or time.monotonic() + REDELIVERY_SECONDS

    def deliver(self, attachment: Attachment) -> int:
        """Send what is held for a mobile node to its link; return how many packets that were."""
        self.take()
        return self._send(self._taken(attachment), self._to_links)

    def forward(self, attachment: Attachment) -> int:
        """Send what is held for a mobile node by ordinary routing; return how many packets that were."""
        return self._send(self._taken(attachment), self._elsewhere)

    def drop(self, attachment: Attachment) -> int:
        """Drop what is held for a mobile node; return how many packets that were."""
        return len(self._taken(attachment))

    def redeliver(self) -> None:
        """Deliver what was held while its mobile node was served, if it still is."""
        self.redelivery, served = None, self._served
        self._served = {}
        for each in served.values():
            known = self._attachment_to(first_octets(each.node.prefixes[0]))
            if known is not None and known.state is State.SERVED:
                self._send(self._taken(known), self._to_links)

    def close(self) -> None:
        """Close the sockets."""
        self.unbind()
        self._elsewhere.close()
        self._to_links.close()

    def _taken(self, attachment: Attachment) -> list[bytes]:
        return [packet for each in attachment.node.prefixes for packet in self._held.take(first_octets(each))]

    def _send(self, packets: Iterable[bytes], way: socket.socket) -> int:
        count = 0
        for packet in packets:
            count += 1
            try:
                way.sendto(packet, (str(IPv6Address(packet[24:40])), 0))
            except OSError as error:  # no route, or a full queue: as on any router
                self._counts.drop("held_packet_not_sent", "%s", error)
        return count


def _opened(mark: int) -> socket.socket:
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return raw
