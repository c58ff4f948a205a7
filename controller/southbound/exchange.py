# SPDX-License-Identifier: Apache-2.0
"""What is asked of a switch, what comes back for it, and how that may go wrong."""

from collections.abc import Callable, Collection, Iterable

from eventlet.event import Event

from controller.core.traffic import Counters
from controller.southbound.decoder import FlowStatistics
from hoaflow.errors import HoaflowError


class SwitchSilent(HoaflowError):
    """A switch did not answer in time."""


class ChangesRefused(HoaflowError):
    """A switch refused some changes: ``reasons`` by their position.

    Of a bundle, nothing was carried out then. Of others, those at positions in ``unsent`` were not sent for it, and all
    else was carried out.
    """

    def __init__(self, reasons: dict[int, str], in_bundle: bool, unsent: Collection[int] = ()) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons
        self.in_bundle = in_bundle
        self.unsent = unsent


class Exchange:
    """One request and what came back for it: its errors by xid, and the reply that ends it.

    ``sent`` is when it was handed to the connection; ``take`` gets each part of the flow statistics.
    """

    def __init__(self, take: Callable[[Iterable[FlowStatistics]], None] | None = None) -> None:
        self.done = Event()
        self.sent = 0.0
        self.errors: dict[int, str] = {}
        self.take = take
        self.total = Counters(0, 0)

    def finish(self) -> None:
        """The last reply has come."""
        if not self.done.ready():
            self.done.send()
