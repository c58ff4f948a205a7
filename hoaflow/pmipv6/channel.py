# SPDX-License-Identifier: Apache-2.0
"""Exchange messages with the other end: only authenticated ones come in, and all are authenticated that go out."""

import socket
import struct
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address

from hoaflow.logs import Log
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.packet_io import BATCH, MAX_PACKET, send_packet
from hoaflow.mobility.wire import HOP_LIMIT, MOBILITY_HEADER, parse_packet
from hoaflow.pmipv6.messages import (
    TIMESTAMP_UNITS,
    Heartbeat,
    Message,
    Revocation,
    RevocationAcknowledgement,
)
from hoaflow.pmipv6.wire import build, parse, vouched_for

LOG = Log("pmipv6")


class Channel:
    """A socket for Mobility Headers to and from one address of this host.

    `keys` has a security association for each peer; without keys (None), everybody's messages are taken. With keys,
    heartbeats and revocations must have a timestamp within `window` seconds of our clock, or they might be recordings.
    """

    def __init__(
        self, address: str, keys: Mapping[str, SecurityAssociation] | None, window: float, counts: MessageCounts
    ) -> None:
        """Open it. Raises OSError if the address is not this host's, or without permission."""
        self._address, self._keys, self._window, self._counts = IPv6Address(address).packed, keys, window, counts
        # The kernel answers what no raw socket receives with a Parameter Problem.
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, MOBILITY_HEADER)
        try:
            self._socket.bind((address, 0))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return its descriptor, for selectors."""
        return self._socket.fileno()

    def messages(self) -> Iterator[Message]:
        """Yield messages that have arrived, at most BATCH packets' worth; all others are counted."""
        for _ in range(BATCH):
            try:
                payload, source = self._socket.recvfrom(MAX_PACKET)
            except BlockingIOError:
                return
            message = self._accepted(payload, source[0].partition("%")[0])
            if message is not None:
                yield message

    def send(self, message: Message) -> bool:
        """Send a message; tell whether the kernel took it. Whoever awaits an answer repeats it."""
        association = None if self._keys is None else self._keys.get(message.destination)
        if self._keys is not None and association is None:
            self._counts.drop("no_key", "for %s", message.destination)
            return False
        try:
            send_packet(build(message, association))
        except OSError as error:
            LOG.warning("send-failed", destination=message.destination, reason=error)
            return False
        return True

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _accepted(self, payload: bytes, source: str) -> Message | None:
        # As the packet that it was: the checksum covers the addresses.
        head = struct.pack("!IHBB", 6 << 28, len(payload), MOBILITY_HEADER, HOP_LIMIT)
        try:
            packet = parse_packet(head + IPv6Address(source).packed + self._address + payload)
            packet.check_mobility_header()
            message = parse(packet)
        except MalformedPacketError as error:
            self._counts.drop("malformed", "from %s: %s", source, error)
            return None
        if message is None:
            self._counts.drop("unexpected", "from %s: no message of Proxy Mobile IPv6", source)
            return None
        if self._keys is None:
            return message
        association = self._keys.get(source)
        if association is None or not vouched_for(message, association):
            self._counts.drop("not_authenticated", "%s from %s", type(message).__name__, source)
            return None
        if isinstance(message, Heartbeat | Revocation | RevocationAcknowledgement) and not self._is_recent(message):
            self._counts.drop("timestamp", "%s from %s", type(message).__name__, source)
            return None
        return message

    def _is_recent(self, message: Heartbeat | Revocation | RevocationAcknowledgement) -> bool:
        stamped = message.timestamp
        return stamped is not None and abs(stamped / TIMESTAMP_UNITS - time.time()) <= self._window
