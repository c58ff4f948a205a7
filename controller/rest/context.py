# SPDX-License-Identifier: Apache-2.0
"""What the calls act on, and how a long call lets others run meanwhile."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import eventlet

from controller.changes import ChangeSignal, KeyedSignal
from controller.core.offload import Offload
from controller.events import EventBuffer
from controller.metrics import Metrics
from controller.settings import Settings
from controller.southbound.channel import SwitchChannel
from controller.traffic_history import TrafficHistory

# How many items are applied, and how many are only read, before other greenlets run: some milliseconds' worth.
APPLIED_PER_TURN = 100
READ_PER_TURN = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiContext:
    """What the calls act on.

    ``channels`` are the connected switches by datapath id. ``notify`` tells everybody that something in the core may
    have changed; ``changed`` waits for that, and ``moved`` for what happens to one home address.
    """

    offload: Offload
    settings: Settings
    channels: Mapping[int, SwitchChannel]
    changed: ChangeSignal
    moved: KeyedSignal
    notify: Callable[[], None]
    events: EventBuffer
    metrics: Metrics
    traffic: TrafficHistory

    def batches(self, items: Sequence[T]) -> Iterator[Sequence[tuple[int, T]]]:
        """Iterate over items and their indexes, batch by batch; after each, let it take effect and others run."""
        for start in range(0, len(items), APPLIED_PER_TURN):
            yield list(enumerate(items[start : start + APPLIED_PER_TURN], start))
            self.pause()

    def pause(self) -> None:
        """Let what has been done take effect, and others run."""
        self.notify()
        eventlet.sleep(0)


def in_turns(items: Iterable[T], every: int = READ_PER_TURN) -> Iterator[T]:
    """Iterate over ``items``, and let others run after ``every`` of them."""
    for count, item in enumerate(items, 1):
        yield item
        if count % every == 0:
            eventlet.sleep(0)
