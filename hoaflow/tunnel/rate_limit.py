# SPDX-License-Identifier: Apache-2.0
"""Limit a rate by a token bucket. Pure: time is an argument."""


class RateLimit:
    """A token bucket that allows `rate` events a second, and `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = float(burst), float("-inf")

    def take(self, now: float) -> bool:
        """Take a token at `now` (seconds, monotonic), and tell whether there was one."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
