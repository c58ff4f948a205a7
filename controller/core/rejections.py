# SPDX-License-Identifier: Apache-2.0
"""Remember what a switch refused, and when to try that again: later each time."""

from collections.abc import Mapping
from typing import NamedTuple

from controller.core.flows import FlowKey
from hoaflow.backoff import delay

FIRST_RETRY = 1.0  # seconds
LAST_RETRY = 60.0
# A flow that is refused again within so many seconds after it was taken waits as long as it did before.
REMEMBERED = 2 * LAST_RETRY
EVICTED = "it evicted the flow, for want of room"


class Rejection(NamedTuple):
    """Why a switch refused a flow, or its deletion (``deleting``), how often, since when, and when to try again."""

    reason: str
    times: int
    since: float
    retry_at: float
    deleting: bool = False


class _Overcome(NamedTuple):
    """How often a switch refused a flow that it has taken since, and until when that matters."""

    times: int
    until: float


class Rejections:
    """The refusals in force, by key."""

    def __init__(self) -> None:
        self._rejected: dict[FlowKey, Rejection] = {}
        # Those that the switch has taken since, oldest first.
        self._overcome: dict[FlowKey, _Overcome] = {}

    def __len__(self) -> int:
        return len(self._rejected)

    def put(self, key: FlowKey, reason: str, now: float, deleting: bool = False) -> Rejection:
        """Record a refusal, which may not be the first of this key, and return it."""
        before = self._rejected.get(key)
        if before is not None:
            times = before.times + 1
        else:
            overcome = self._overcome.pop(key, None)
            times = 1 if overcome is None or overcome.until < now else overcome.times + 1
        retry_at = now + delay(times, FIRST_RETRY, LAST_RETRY)
        rejection = Rejection(reason, times, before.since if before else now, retry_at, deleting)
        self._rejected[key] = rejection
        return rejection

    def overcome(self, key: FlowKey, now: float) -> None:
        """Record that the switch has taken a flow that it may have refused before."""
        rejection = self._rejected.pop(key, None) if self._rejected else None
        if rejection is not None:
            self._overcome[key] = _Overcome(rejection.times, now + REMEMBERED)
        while self._overcome and self._overcome[oldest := next(iter(self._overcome))].until < now:
            del self._overcome[oldest]

    def remove(self, key: FlowKey) -> bool:
        """Forget a refusal, as it has no object any more; tell whether there was one."""
        return bool(self._rejected) and self._rejected.pop(key, None) is not None

    def get(self, key: FlowKey) -> Rejection | None:
        """Return the refusal of the flow with a key, None if there is none."""
        return self._rejected.get(key) if self._rejected else None

    def forbids(self, key: FlowKey, now: float) -> bool:
        """Tell whether it is too early to try a flow again."""
        rejection = self.get(key)
        return rejection is not None and now < rejection.retry_at

    def forbids_deletion(self, key: FlowKey, now: float) -> bool:
        """Tell whether it is too early to try a deletion again."""
        rejection = self.get(key)
        return rejection is not None and rejection.deleting and now < rejection.retry_at

    def all(self) -> Mapping[FlowKey, Rejection]:
        """Return all refusals by key."""
        return self._rejected

    def clear(self) -> None:
        """Forget all refusals."""
        self._rejected.clear()
        self._overcome.clear()
