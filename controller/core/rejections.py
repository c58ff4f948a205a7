# SPDX-License-Identifier: Apache-2.0
"""What a switch refused, and when that is tried again: later each time."""

from collections.abc import Mapping
from typing import NamedTuple

from controller.core.flows import FlowKey

FIRST_RETRY = 1.0  # seconds
LAST_RETRY = 60.0


class Rejection(NamedTuple):
    """Why a switch refused a flow, how often, since when, and when it is tried again."""

    reason: str
    times: int
    since: float
    retry_at: float


class Rejections:
    """The refusals that stand, by key."""

    def __init__(self) -> None:
        self._rejected: dict[FlowKey, Rejection] = {}

    def put(self, key: FlowKey, reason: str, now: float) -> Rejection:
        """The switch refuses, perhaps not for the first time."""
        before = self._rejected.get(key)
        times = before.times + 1 if before else 1
        retry_at = now + min(LAST_RETRY, FIRST_RETRY * 2 ** (times - 1))
        rejection = Rejection(reason, times, before.since if before else now, retry_at)
        self._rejected[key] = rejection
        return rejection

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

    def all(self) -> Mapping[FlowKey, Rejection]:
        """Return all refusals."""
        return self._rejected

    def clear(self) -> None:
        """Forget them all."""
        self._rejected.clear()
