# SPDX-License-Identifier: Apache-2.0
"""Work out the timeouts of gates, in a switch's whole seconds, and when to renew them.

No other flow has a timeout: after each change Open vSwitch walks over all flows that have one (`docs/performance.md`).
"""

import math
from typing import NamedTuple

# OpenFlow has 16 bits for a timeout in seconds.
LONGEST_TIMEOUT = 0xFFFF
# A hard_timeout is rounded down, but a delay of up to so many seconds does not cost a whole second.
ROUNDING = 0.1
# Expiries this close, in seconds, are the same: the switch counts whole seconds.
SAME_EXPIRY = 2.0
# A gate is renewed if that extends it by at least so many seconds; the switch counts whole ones.
GATE_GAIN = 0.25


def hard_timeout(ends: float | None, now: float) -> int:
    """Return the whole seconds from ``now`` to ``ends``, 0 for no end, as in OpenFlow.

    They end at most `ROUNDING` seconds late. A flow that would last less than a second gets 0 or less and must not be
    sent.
    """
    if ends is None:
        return 0
    return min(LONGEST_TIMEOUT, math.floor(ends - now + ROUNDING))


class Span(NamedTuple):
    """When a flow should end, its timeout in whole seconds, and when it ends by that."""

    ends: float | None
    timeout: int
    expires_at: float | None

    @property
    def is_too_short(self) -> bool:
        """Whether it ends within a second, so that the flow is not worth sending."""
        return self.ends is not None and self.timeout < 1


def span_until(ends: float | None, now: float) -> Span:
    """Return the span of a flow that is sent now and should end at ``ends``, None for never."""
    if ends is None:
        return Span(None, 0, None)
    timeout = hard_timeout(ends, now)
    return Span(ends, timeout, now + timeout)


def is_over(expires_at: float | None, now: float) -> bool:
    """Tell whether a flow has ended by itself."""
    return expires_at is not None and expires_at <= now


def outlives(expires_at: float | None, ends: float | None) -> bool:
    """Tell whether a flow that expires at ``expires_at`` would still stand after it should have ended."""
    if ends is None:
        return False
    return expires_at is None or expires_at > ends + SAME_EXPIRY


def is_renewal_due(ends: float | None, expires_at: float | None, now: float) -> bool:
    """Tell whether a gate that expires at ``expires_at`` and should end at ``ends`` has to be sent again now.

    It is for whatever it gains, as a lease is not renewed often.
    """
    if ends is None or expires_at is None:
        return ends is not expires_at
    return now + hard_timeout(ends, now) - expires_at >= GATE_GAIN or outlives(expires_at, ends)
