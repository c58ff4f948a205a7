# SPDX-License-Identifier: Apache-2.0
"""Hold packets for mobile nodes that are between two links, in order and within a limit. Pure."""

from collections import deque

DESTINATION = slice(24, 32)
"""The first 64 bits of an IPv6 packet's destination: its home network prefix."""


class HeldPackets:
    """The packets held, at most `limit` for each prefix; further ones are dropped and counted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[bytes, deque[bytes]] = {}
        self.dropped = 0

    def hold(self, packet: bytes) -> None:
        """Hold a packet."""
        queue = self._held.setdefault(packet[DESTINATION], deque())
        if len(queue) >= self._limit:
            self.dropped += 1
            return
        queue.append(packet)

    def take(self, prefix: bytes) -> list[bytes]:
        """Return the packets of a prefix (its first 8 octets), and hold them no longer."""
        return list(self._held.pop(prefix, ()))

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))
