# SPDX-License-Identifier: Apache-2.0
"""Remember which flows a switch has refused, and when to try each again: later each time."""

from collections.abc import Mapping
from typing import NamedTuple

from controller.core.flows import FlowKey
from hoaflow.backoff import delay

FIRST_RETRY = 1.0  # seconds
LAST_RETRY = 60.0
# A flow that is refused again within so many seconds after it was taken waits as long as it did before.
REMEMBERED = 2 * LAST_RETRY
EVICTED = "it evicted the flow, for want of room"


class Refusal(NamedTuple):
    """Why a switch refused a flow, or its deletion (``deleting``), how often, since when, and when to try again."""

    reason: str
    times: int
    since: float
    retry_at: float
    deleting: bool = False


class _Accepted(NamedTuple):
    """How often a switch refused a flow that it has taken since, and until when that matters."""

    times: int
    until: float


class RefusedFlows:
    """Flows that a switch has refused and not taken since, by key."""

    def __init__(self) -> None:
        self._refused: dict[FlowKey, Refusal] = {}
        # Those that the switch has taken since, oldest first.
        self._accepted: dict[FlowKey, _Accepted] = {}

    def __len__(self) -> int:
        return len(self._refused)

    @property
    def remembers_any(self) -> bool:
        """Whether any flow has been refused lately, even if it was taken since."""
        return bool(self._refused or self._accepted)

    def put(self, key: FlowKey, reason: str, now: float, deleting: bool = False) -> Refusal:
        """Record a refusal, which may not be the first of this key, and return it."""
        before = self._refused.get(key)
        if before is not None:
            times = before.times + 1
        else:
            accepted = self._accepted.pop(key, None)
            times = 1 if accepted is None or accepted.until < now else accepted.times + 1
        retry_at = now + delay(times, FIRST_RETRY, LAST_RETRY)
        refusal = Refusal(reason, times, before.since if before else now, retry_at, deleting)
        self._refused[key] = refusal
        return refusal

    def accepted(self, key: FlowKey, now: float) -> None:
        """Record that the switch has taken a flow that it may have refused before."""
        refusal = self._refused.pop(key, None) if self._refused else None
        if refusal is not None:
            self._accepted[key] = _Accepted(refusal.times, now + REMEMBERED)
        while self._accepted and self._accepted[oldest := next(iter(self._accepted))].until < now:
            del self._accepted[oldest]

    def remove(self, key: FlowKey) -> bool:
        """Forget a refusal, as it has no object any more; tell whether there was one."""
        return bool(self._refused) and self._refused.pop(key, None) is not None

    def get(self, key: FlowKey) -> Refusal | None:
        """Return the refusal of the flow with a key, None if there is none."""
        return self._refused.get(key) if self._refused else None

    def blocks(self, key: FlowKey, now: float) -> bool:
        """Tell whether it is too early to try a flow again."""
        refusal = self.get(key)
        return refusal is not None and now < refusal.retry_at

    def blocks_deletion(self, key: FlowKey, now: float) -> bool:
        """Tell whether it is too early to try a deletion again."""
        refusal = self.get(key)
        return refusal is not None and refusal.deleting and now < refusal.retry_at

    def all(self) -> Mapping[FlowKey, Refusal]:
        """Return all refusals by key."""
        return self._refused

    def clear(self) -> None:
        """Forget all refusals."""
        self._refused.clear()
        self._accepted.clear()
