# SPDX-License-Identifier: Apache-2.0
"""A token bucket: pure, time is an argument."""

from __future__ import annotations


class RateLimit:
    """Lets `rate` events a second pass, `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = float(burst), float("-inf")

    def take(self, now: float) -> bool:
        """Whether one more may pass at `now` (seconds, never going back); if so it is taken."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
