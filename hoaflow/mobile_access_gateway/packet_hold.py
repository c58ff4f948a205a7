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
RESENDING_SECONDS = 0.05
"""After so long, packets that came although their mobile node is served, or is elsewhere, are sent on."""


class PacketHold:
    """The packets that the kernel leads to the hold link.

    `attachment_to` returns the attachment of the mobile node with a home network prefix, by the prefix's first 8
    octets. `resending`: when to call `resend` (monotonic seconds), None for not at all.
    """

    def __init__(
        self, held: HeldPackets, attachment_to: Callable[[bytes], Attachment | None], counts: MessageCounts
    ) -> None:
        """Open the sockets to send by. Raises OSError without permission."""
        self._held, self._attachment_to, self._counts = held, attachment_to, counts
        self.receiver: PacketReceiver | None = None
        self.resending: float | None = None
        self._late: dict[str, Attachment] = {}  # those whose packets are to be sent on then
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
        """Hold what has come to the hold link; what need not wait for its mobile node is sent on soon."""
        for packet in self.receiver.packets() if self.receiver is not None else ():
            known = self._attachment_to(packet[DESTINATION])
            if known is None or known.state is State.LEAVING:
                if packet[24] != MULTICAST:  # the kernel's own, on every link
                    self._counts.drop("not_attached", "to %s", IPv6Address(packet[24:40]))
                continue
            self._held.hold(packet)
            # If it is served, the packet came just before the route to the link was there, or just after the link went
            # down. If it is elsewhere, not all routers know yet: sent on at once, the packet could be back at once.
            if known.state in (State.SERVED, State.FORWARDING):
                self._late[known.node.identifier] = known
                self.resending = self.resending or time.monotonic() + RESENDING_SECONDS

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

    def resend(self) -> None:
        """Send on what came for mobile nodes that are served, or elsewhere, if they still are."""
        self.resending, late = None, self._late
        self._late = {}
        for each in late.values():
            known = self._attachment_to(first_octets(each.node.prefixes[0]))
            if known is not None and known.state is State.SERVED:
                self._send(self._taken(known), self._to_links)
            elif known is not None and known.state is State.FORWARDING:
                self.forward(known)

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
