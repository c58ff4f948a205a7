# SPDX-License-Identifier: Apache-2.0
"""Define a request to a switch with its answer, and the errors that it may end with."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from eventlet.event import Event

from controller.core.traffic import Counters
from hoaflow.errors import HoaflowError


class SwitchSilent(HoaflowError):
    """The switch did not answer in time."""


class ChangesRefused(HoaflowError):
    """The switch refused some changes; `reasons` are by position.

    Of a bundle, no change was carried out. Otherwise the changes at the positions `unsent` were not sent, and all
    others that were not refused were carried out.
    """

    def __init__(self, reasons: dict[int, str], in_bundle: bool, unsent: Collection[int] = ()) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons
        self.in_bundle = in_bundle
        self.unsent = unsent


class RoleRefused(HoaflowError):
    """The switch did not give this controller the role that it asked for."""


class StaleGeneration(RoleRefused):
    """Another controller has been given a role with a newer generation since."""


class RoleReply(NamedTuple):
    """The role that this controller has with a switch, and the newest generation the switch knows, None for none."""

    role: int
    generation: int | None


class Exchange:
    """Hold one request's answer: errors by xid, and the reply that ends it, to the last of `xids`.

    `sent` is the time at which the request was handed to the connection. `take` is called with each part of flow
    statistics.
    """

    def __init__(self, xids: range, take: Callable[[bytes], None] | None = None) -> None:
        self.xids = xids
        self.last_xid = xids[-1]
        self.done = Event()
        self.sent = 0.0
        self.errors: dict[int, str] = {}
        self.take = take
        self.total = Counters(0, 0)
        self.role: RoleReply | None = None
        self.meters: list[Any] = []  # what Ryu has parsed of them, in all parts of the reply

    def finish(self) -> None:
        """Record that the last reply has come."""
        if not self.done.ready():
            self.done.send()
