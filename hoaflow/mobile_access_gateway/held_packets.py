# SPDX-License-Identifier: Apache-2.0
"""Hold packets for mobile nodes that are between two links, in order and within a limit. Pure."""

from collections import deque

MOST = 100_000
"""Packets held at most for all prefixes together, when a link with thousands of mobile nodes goes down: some 200 MB."""
DESTINATION = slice(24, 32)
"""The first 64 bits of an IPv6 packet's destination: its home network prefix."""


class HeldPackets:
    """The packets held, at most `limit` for each prefix and `most` in all; further ones are dropped and counted."""

    def __init__(self, limit: int, most: int = MOST) -> None:
        self._limit, self._most, self._count = limit, most, 0
        self._held: dict[bytes, deque[bytes]] = {}
        self.dropped = 0

    def hold(self, packet: bytes) -> None:
        """Hold a packet."""
        queue = self._held.setdefault(packet[DESTINATION], deque())
        if len(queue) >= self._limit or self._count >= self._most:
            self.dropped += 1
            return
        queue.append(packet)
        self._count += 1

    def take(self, prefix: bytes) -> list[bytes]:
        """Return the packets of a prefix (its first 8 octets), and hold them no longer."""
        taken = list(self._held.pop(prefix, ()))
        self._count -= len(taken)
        return taken

    def __len__(self) -> int:
        return self._count
