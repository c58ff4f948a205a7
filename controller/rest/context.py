# SPDX-License-Identifier: Apache-2.0
"""Give the calls access to the controller, and let other greenlets run during a long call."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from controller.changes import ChangeSignal, KeyedSignal, give_way
from controller.core.offload import Offload
from controller.events import EventBuffer
from controller.metrics import Metrics
from controller.rest.members import Members
from controller.settings import Settings
from controller.southbound.channel import SwitchChannel
from controller.traffic_history import TrafficHistory

# Items that are applied, or only read, before other greenlets run: some milliseconds' work.
APPLIED_PER_TURN = 100
READ_PER_TURN = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Hold the parts of the controller that calls act on.

    `channels` are the connected switches by datapath id. `notify` tells all that the core may have changed; `changed`
    waits for that, and `moved` for events of one home address.
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
    members: Members

    def batches(self, items: Sequence[T]) -> Iterator[Sequence[tuple[int, T]]]:
        """Yield items with their indexes, batch by batch, and `pause` after each."""
        for start in range(0, len(items), APPLIED_PER_TURN):
            yield list(enumerate(items[start : start + APPLIED_PER_TURN], start))
            self.pause()

    def pause(self) -> None:
        """Let the changes so far take effect, and other greenlets run."""
        self.notify()
        give_way()


def in_turns(items: Iterable[T], every: int = READ_PER_TURN) -> Iterator[T]:
    """Yield `items`, and let other greenlets run after each `every` of them."""
    for count, item in enumerate(items, 1):
        yield item
        if count % every == 0:
            give_way()
