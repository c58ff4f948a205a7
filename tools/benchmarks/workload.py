# SPDX-License-Identifier: Apache-2.0
"""The mobile nodes of a benchmark: home agents, their bindings, and the requests in which a bridge reports them."""

import json
import math
from collections.abc import Iterable

FLOWS_PER_BINDING = 3  # of the `flow` backend: downlink, uplink and verification


class Population:
    """The mobile nodes of home agent number `number`, each with a care-of address of its own.

    `expires`: when their lifetimes end, by CLOCK_MONOTONIC.
    """

    def __init__(self, number: int, size: int, expires: float) -> None:
        self.number = number
        self.home_agent = f"2001:db8:{number:x}::1"
        self.home_prefix = f"2001:db8:{number:x}::/64"
        self._links = [1] * size
        self._sequences = [1] * size
        self._expires = [expires] * size

    def __len__(self) -> int:
        return len(self._links)

    def binding(self, node: int, now: float) -> dict[str, object]:
        """Return what a bridge reports of a mobile node at the time `now`."""
        words = f"{node >> 16:x}:{node & 0xFFFF:x}"
        return {
            "home_address": f"2001:db8:{self.number:x}::1:{words}",
            "care_of_address": f"2001:db8:f{self.number:x}:{self._links[node]:x}::{words}",
            "home_agent": self.home_agent,
            "lifetime": max(1, math.ceil(self._expires[node] - now)),
            "sequence": self._sequences[node] & 0xFFFF,
        }

    def report(self, now: float, nodes: Iterable[int] | None = None) -> bytes:
        """Return the request body that reports these mobile nodes' bindings, or all: a batch's, or a snapshot's."""
        chosen = range(len(self)) if nodes is None else nodes
        return json.dumps({"bindings": [self.binding(node, now) for node in chosen]}).encode()

    def move(self, nodes: Iterable[int]) -> None:
        """Each of these mobile nodes moves on to another link, and registers anew for as long as before."""
        for node in nodes:
            self._links[node] += 1
            self._sequences[node] += 1

    def stay(self, nodes: Iterable[int]) -> None:
        """Undo the move of these mobile nodes."""
        for node in nodes:
            self._links[node] -= 1
            self._sequences[node] -= 1

    def refresh(self, nodes: Iterable[int], expires: float) -> None:
        """Each of these mobile nodes registers anew where it is, until `expires`."""
        for node in nodes:
            self._sequences[node] += 1
            self._expires[node] = expires


def spread(size: int, count: int, turn: int = 0) -> list[int]:
    """`count` of `size` mobile nodes, evenly spread; others with each `turn`, as far as there are any.

    Raises ValueError when there are not so many.
    """
    if count > size:
        raise ValueError(f"expected at most {size} of {size} mobile nodes, got {count}")
    step = size // count
    return [index * step + turn % step for index in range(count)]
