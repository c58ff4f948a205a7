# SPDX-License-Identifier: Apache-2.0
"""When flows end: what a binding's lifetime or a lease is in a switch's whole seconds, and when that is renewed."""

import math
from typing import NamedTuple

# OpenFlow counts timeouts in 16 bits of seconds.
LONGEST_TIMEOUT = 0xFFFF
# A hard_timeout is a whole number: round down, but let a moment's delay not cost a whole second.
ROUNDING = 0.1
# Moments of expiry this close are one: the switch counts whole seconds.
SAME_EXPIRY = 2.0
# A lifetime is reported in seconds left, so its end moves by as long as the report takes: seconds, in a large snapshot.
# By a thousandth of what is left, but no more than so many seconds, a flow may end late for that: its controller ends
# it in time, or else its gate does.
LATE_SHARE, LATEST = 0.001, 4.0
# A gate is renewed for whatever it gains in whole seconds.
GATE_GAIN = 0.25
# A flow with less left than this is not looked at any more by itself: who refreshes its binding that late says so.
LAST_LOOK = 4.0
# The same as seen from the binding, whose end may differ from its flow's: see `refresh_matters`.
_LATE = LAST_LOOK + SAME_EXPIRY + 2.0


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


def _slack(ends: float, now: float) -> float:
    """Return how much later than a binding its flow may end without being sent again for that alone."""
    return SAME_EXPIRY + min(max(0.0, ends - now) * LATE_SHARE, LATEST)


def renewal(ends: float | None, expires_at: float | None, now: float) -> tuple[bool, float | None]:
    """Tell whether a flow that expires at ``expires_at`` and should end at ``ends`` has to be sent again now, and if
    not, when to look again (None: not as things stand).

    Shortened and open-ended lifetimes go out at once. Otherwise a flow is rewritten when half of what the binding has
    left is gone, so that frequent refreshes cost next to nothing. They are not even told: a flow is looked at whenever
    half of what it has left itself is gone.
    """
    if ends is None or expires_at is None:
        return ends is not expires_at, None
    gain = ends - expires_at
    if gain < -_slack(ends, now):
        return True, None
    again = []
    if gain >= SAME_EXPIRY:
        # A lifetime longer than OpenFlow can count is renewed at half of what it can.
        renew_at = expires_at - min(gain, LONGEST_TIMEOUT / 2)
        if renew_at <= now:
            return True, None
        again.append(renew_at)
    if expires_at - now > LAST_LOOK:
        again.append((now + expires_at) / 2)
    return False, min(again, default=None)


def refresh_matters(before: float | None, after: float | None, now: float) -> bool:
    """Tell whether flows have to be looked at because their binding's end moved: not if they will be in time anyway."""
    if before is None or after is None:
        return before is not after
    return after < before - _slack(after, now) or before - now < _LATE


def gate_renewal(ends: float | None, expires_at: float | None, now: float) -> tuple[bool, float | None]:
    """Tell the same of a gate: it is renewed for whatever it gains, as the renewals of a lease are few."""
    if ends is None or expires_at is None:
        return ends is not expires_at, None
    return now + hard_timeout(ends, now) - expires_at >= GATE_GAIN or outlives(expires_at, ends), None
