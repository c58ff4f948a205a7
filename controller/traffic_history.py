# SPDX-License-Identifier: Apache-2.0
"""Sample the traffic that routers carry past the home agents, for the last hour."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from controller.core.offload import Offload
from controller.core.traffic import DIRECTIONS

# Seconds between samples, and the number that is kept: an hour's.
EVERY = 10.0
KEPT = 360


class Sample(NamedTuple):
    """Bytes that all routers had carried by `time` (seconds since the epoch), by direction."""

    time: float
    bytes: Mapping[str, int]


class TrafficHistory:
    """Hold the latest samples, oldest first. A sum falls when a router is forgotten."""

    def __init__(self, offload: Offload) -> None:
        self._offload = offload
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def __iter__(self) -> Iterator[Sample]:
        return iter(list(self._samples))

    def take(self, time: float) -> None:
        """Record the routers' latest counters as the sample of `time`."""
        routers = list(self._offload.routers.values())
        sums = {each: sum(router.traffic.total(each).bytes for router in routers) for each in DIRECTIONS}
        self._samples.append(Sample(time, sums))
