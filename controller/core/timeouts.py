# SPDX-License-Identifier: Apache-2.0
"""When gates end: what a lease is in a switch's whole seconds, and when that is renewed.

No other flow has a timeout: after each change Open vSwitch looks at all that have one (`docs/performance.md`).
"""

import math
from typing import NamedTuple

# OpenFlow counts timeouts in 16 bits of seconds.
LONGEST_TIMEOUT = 0xFFFF
# A hard_timeout is a whole number: round down, but let a moment's delay not cost a whole second.
ROUNDING = 0.1
# Moments of expiry this close are one: the switch counts whole seconds.
SAME_EXPIRY = 2.0
# A gate is renewed for whatever it gains in whole seconds.
GATE_GAIN = 0.25


def hard_timeout(ends: float | None, now: float) -> int:
    """Return the whole seconds from ``now`` to ``ends`` for a flow (0: none, as OpenFlow has it).

    Never later than the moment itself, but for a tenth of a second; a flow that would live on for less than a second
    is not worth one.
    """
    if ends is None:
        return 0
    return min(LONGEST_TIMEOUT, math.floor(ends - now + ROUNDING))


class Span(NamedTuple):
    """A flow's end as desired, and what that is in a switch: how long in whole seconds, and until when."""

    ends: float | None
    timeout: int
    expires_at: float | None

    @property
    def is_too_short(self) -> bool:
        """Whether it ends before a switch could count it."""
        return self.ends is not None and self.timeout < 1


def span_until(ends: float | None, now: float) -> Span:
    """Return how long a flow has to last that is sent now and should end at a moment."""
    if ends is None:
        return Span(None, 0, None)
    timeout = hard_timeout(ends, now)
    return Span(ends, timeout, now + timeout)


def is_over(expires_at: float | None, now: float) -> bool:
    """Tell whether a flow has ended by itself."""
    return expires_at is not None and expires_at <= now


def outlives(expires_at: float | None, ends: float | None) -> bool:
    """Tell whether a flow that expires at one moment would still stand when it should have ended."""
    if ends is None:
        return False
    return expires_at is None or expires_at > ends + SAME_EXPIRY


def is_renewal_due(ends: float | None, expires_at: float | None, now: float) -> bool:
    """Tell whether a gate that expires at ``expires_at`` and should end at ``ends`` has to be sent again now: it is
    renewed for whatever it gains, as the renewals of a lease are few."""
    if ends is None or expires_at is None:
        return ends is not expires_at
    return now + hard_timeout(ends, now) - expires_at >= GATE_GAIN or outlives(expires_at, ends)
