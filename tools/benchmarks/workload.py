# SPDX-License-Identifier: Apache-2.0
"""Model the mobile nodes of a benchmark, and build the requests that report their bindings."""

import json
import math
from collections.abc import Iterable

FLOWS_PER_BINDING = 3  # of the `flow` backend: downlink, uplink and verification


class Population:
    """Model the mobile nodes of home agent number `number`, each with a care-of address of its own.

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

    def flows(self, bindings: int) -> int:
        """Return how many flows so many of the bindings have on a router."""
        return FLOWS_PER_BINDING * bindings

    def binding(self, node: int, now: float) -> dict[str, object]:
        """Return mobile node NODE's binding at time `now`, as `POST /v1/bindings` takes it."""
        words = f"{node >> 16:x}:{node & 0xFFFF:x}"
        return {
            "home_address": f"2001:db8:{self.number:x}::1:{words}",
            "care_of_address": f"2001:db8:f{self.number:x}:{self._links[node]:x}::{words}",
            "home_agent": self.home_agent,
            "lifetime": max(1, math.ceil(self._expires[node] - now)),
            "sequence": self._sequences[node] & 0xFFFF,
        }

    def report(self, now: float, nodes: Iterable[int] | None = None) -> bytes:
        """Return a request body with the bindings of these mobile nodes (None: all), for a batch or a snapshot."""
        chosen = range(len(self)) if nodes is None else nodes
        return json.dumps({"bindings": [self.binding(node, now) for node in chosen]}).encode()

    def move(self, nodes: Iterable[int]) -> None:
        """Move these mobile nodes to another link each; their sequence numbers go up, their lifetimes stay."""
        for node in nodes:
            self._links[node] += 1
            self._sequences[node] += 1

    def stay(self, nodes: Iterable[int]) -> None:
        """Undo `move` for these mobile nodes."""
        for node in nodes:
            self._links[node] -= 1
            self._sequences[node] -= 1

    def refresh(self, nodes: Iterable[int], expires: float) -> None:
        """Register these mobile nodes anew at the same care-of address, until `expires`."""
        for node in nodes:
            self._sequences[node] += 1
            self._expires[node] = expires


class SharedPopulation(Population):
    """Model mobile nodes that share care-of addresses evenly, and move from one to another if there are two."""

    gateways = 2
    """How many care-of addresses there are, 1 or 2."""

    @classmethod
    def of(cls, population: Population, gateways: int = 2) -> "SharedPopulation":
        """Return as many mobile nodes of the same home agent, with the same lifetimes."""
        shared = cls(population.number, len(population), population._expires[0])
        shared.gateways = gateways
        shared.move(range(0, len(shared), 2))
        return shared

    def flows(self, bindings: int) -> int:
        """Return how many flows so many of the bindings have on a router: uplink flows are shared, too."""
        return (FLOWS_PER_BINDING - 1) * bindings + min(self.gateways, bindings)

    def binding(self, node: int, now: float) -> dict[str, object]:
        """Return mobile node NODE's binding at time `now`, as `POST /v1/bindings` takes it."""
        gateway = self._links[node] % self.gateways
        return super().binding(node, now) | {"care_of_address": f"2001:db8:f{self.number:x}:{gateway}::1"}


def spread(size: int, count: int, turn: int = 0) -> list[int]:
    """Return the numbers of `count` of `size` mobile nodes, evenly spread; `turn` shifts them.

    Raises ValueError when there are not so many.
    """
    if count > size:
        raise ValueError(f"expected at most {size} of {size} mobile nodes, got {count}")
    step = size // count
    return [index * step + turn % step for index in range(count)]
