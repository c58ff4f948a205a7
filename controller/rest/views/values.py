# SPDX-License-Identifier: Apache-2.0
"""Convert single values to answers: datapath ids and times."""

import time
from typing import overload

from controller.events import rfc3339


def dpid_text(dpid: int) -> str:
    """Return a datapath id as 16 hexadecimal digits."""
    return f"{dpid:016x}"


@overload
def seconds_left(moment: float, now: float) -> float: ...
@overload
def seconds_left(moment: None, now: float) -> None: ...
def seconds_left(moment: float | None, now: float) -> float | None:
    """Return the seconds until `moment`, at least 0; None if there is no such moment."""
    return None if moment is None else max(0.0, round(moment - now, 3))


def time_of_day(moment: float, now: float) -> str:
    """Return a time of the monotonic clock, which shows `now`, in RFC 3339 form."""
    return rfc3339(time.time() - (now - moment))
