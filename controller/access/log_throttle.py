# SPDX-License-Identifier: Apache-2.0
"""Keep strangers from filling the log. Pure: time is an argument."""

from collections import OrderedDict

MOST_SUBJECTS = 1000


class LogThrottle:
    """Allow one log line per subject within `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._logged: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def due(self, subject: str, now: float) -> int | None:
        """Return the number of lines left out since the last one of `subject`; None to leave this one out."""
        logged, left_out = self._logged.get(subject, (float("-inf"), 0))
        if now - logged < self._seconds:
            self._logged[subject] = logged, left_out + 1
            return None
        if len(self._logged) >= MOST_SUBJECTS:
            self._logged.popitem(last=False)
        self._logged[subject] = now, 0
        self._logged.move_to_end(subject)
        return left_out
