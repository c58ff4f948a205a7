# SPDX-License-Identifier: Apache-2.0
"""What the routers have carried past the home agents, as it was now and then within the last hour."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from controller.core.offload import Offload
from controller.core.traffic import DIRECTIONS

# Seconds from one sample to the next, and how many are kept: an hour's.
EVERY = 10.0
KEPT = 360


class Sample(NamedTuple):
    """Bytes that all routers had carried at a moment (seconds since the epoch), by direction."""

    time: float
    bytes: Mapping[str, int]


class TrafficHistory:
    """The latest samples, oldest first. Less than in the sample before: a router has been forgotten."""

    def __init__(self, offload: Offload) -> None:
        self._offload = offload
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def __iter__(self) -> Iterator[Sample]:
        return iter(list(self._samples))

    def take(self, time: float) -> None:
        """Keep what the routers were last seen to have carried, as the sample of ``time``."""
        routers = list(self._offload.routers.values())
        sums = {each: sum(router.traffic.total(each).bytes for router in routers) for each in DIRECTIONS}
        self._samples.append(Sample(time, sums))
