# SPDX-License-Identifier: Apache-2.0
"""What a switch refused, and when that is tried again: later each time."""

from collections.abc import Mapping
from typing import NamedTuple

from controller.core.flows import FlowKey
from hoaflow.backoff import delay

FIRST_RETRY = 1.0  # seconds
LAST_RETRY = 60.0
# A flow that is refused again so soon after it was taken goes on waiting as long as it did before, in seconds.
REMEMBERED = 2 * LAST_RETRY
EVICTED = "it evicted the flow, for want of room"


class Rejection(NamedTuple):
    """Why a switch refused a flow, or its end (``deleting``), how often, since when, and when that is tried again."""

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
    """The refusals that stand, by key."""

    def __init__(self) -> None:
        self._rejected: dict[FlowKey, Rejection] = {}
        # Those that the switch has taken since, oldest first.
        self._overcome: dict[FlowKey, _Overcome] = {}

    def __len__(self) -> int:
        return len(self._rejected)

    def put(self, key: FlowKey, reason: str, now: float, deleting: bool = False) -> Rejection:
        """The switch refuses, perhaps not for the first time."""
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
        """The switch has taken what it refused before."""
        rejection = self._rejected.pop(key, None) if self._rejected else None
        if rejection is not None:
            self._overcome[key] = _Overcome(rejection.times, now + REMEMBERED)
        while self._overcome and self._overcome[oldest := next(iter(self._overcome))].until < now:
            del self._overcome[oldest]

    def remove(self, key: FlowKey) -> bool:
        """What was refused has been done, or is not wanted any more. Tell whether there was anything."""
        return bool(self._rejected) and self._rejected.pop(key, None) is not None

    def get(self, key: FlowKey) -> Rejection | None:
        """Return the refusal of this key's flow."""
        return self._rejected.get(key) if self._rejected else None

    def forbids(self, key: FlowKey, now: float) -> bool:
        """Tell whether it is too early to try again."""
        rejection = self.get(key)
        return rejection is not None and now < rejection.retry_at

    def forbids_deletion(self, key: FlowKey, now: float) -> bool:
        """Tell whether it is too early to try again to delete."""
        rejection = self.get(key)
        return rejection is not None and rejection.deleting and now < rejection.retry_at

    def all(self) -> Mapping[FlowKey, Rejection]:
        """Return all refusals."""
        return self._rejected

    def clear(self) -> None:
        """Forget them all."""
        self._rejected.clear()
        self._overcome.clear()
