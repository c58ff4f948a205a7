# SPDX-License-Identifier: Apache-2.0
"""Log each change that a caller makes or attempts by REST: who, what, and the result."""

import logging
import math
import time

from werkzeug.wrappers import Response

from controller.access.log_throttle import LogThrottle
from controller.access.roles import ANONYMOUS
from controller.rest.request import ApiRequest
from hoaflow.logs import Log

# No line is left out, however many there are.
LOG = Log("audit", lines_per_second=math.inf)
EVENT = "audit"

CHANGING = frozenset({"POST", "PUT", "DELETE"})
# Seconds in which attempts without a token from one address make one line.
ANONYMOUS_EVERY = 60.0


class Audit:
    """Write the lines, at level DEBUG for calls that changed nothing."""

    def __init__(self) -> None:
        self._anonymous = LogThrottle(ANONYMOUS_EVERY)

    def record(self, request: ApiRequest, response: Response) -> None:
        """Log an answered request of a kind that may change something."""
        caller = request.known_caller
        if caller is None or request.method not in CHANGING:
            return
        address = request.remote_addr or "-"
        fields: dict[str, object] = {
            "who": caller.name,
            "client": address,
            "method": request.method,
            "path": request.path,
        }
        if request.home_agent is not None:  # logs may hide the address in the path
            fields["home_agent"] = request.home_agent
        fields |= request.outcome
        if caller is ANONYMOUS:
            left_out = self._anonymous.due(address, time.monotonic())
            if left_out is None:
                return
            fields["more"] = left_out
        level = logging.INFO if request.changed else logging.DEBUG
        if LOG.wants(level, EVENT):
            LOG.write(level, EVENT, {**fields, "result": response.status_code})
