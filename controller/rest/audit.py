# SPDX-License-Identifier: Apache-2.0
"""One line in the log for each change that somebody makes by REST, or tries to: who, what, and what came of it."""

import contextlib
import logging
import math
import time
from collections.abc import Mapping

from werkzeug.wrappers import Request, Response

from controller.access.log_throttle import LogThrottle
from controller.access.roles import ANONYMOUS
from controller.rest.authorization import CALLER
from controller.rest.problems import Problem
from controller.rest.schemas import bodies
from hoaflow.addresses import format_address
from logs import Log

# Each line counts: none is left out however many there are.
LOG = Log("audit", lines_per_second=math.inf)
EVENT = "audit"

NOTED, SUBJECT = "hoaflow.noted", "hoaflow.subject"
CHANGING = frozenset({"POST", "PUT", "DELETE"})
# Seconds in which what an address without a token tries to change is told once.
ANONYMOUS_EVERY = 60.0


def note(request: Request, fields: Mapping[str, object], changed: bool = True) -> None:
    """Say for the audit what a call did: a subject, counts. With ``changed`` false it did nothing, as a renewal does
    that finds all as it was."""
    request.environ[NOTED] = (fields, changed)


def note_subject(request: Request, in_path: Mapping[str, str]) -> None:
    """Say for the audit which home agent a call is about, also if it is refused: in a path, logs hide addresses."""
    with contextlib.suppress(Problem):  # the call refuses it
        if "address" in in_path:
            home_agent = format_address(bodies.address_in_path(in_path["address"]))
            request.environ[SUBJECT] = {"home_agent": home_agent}


class Audit:
    """Writes the lines. Calls that changed nothing are told at level DEBUG."""

    def __init__(self) -> None:
        self._anonymous = LogThrottle(ANONYMOUS_EVERY)

    def tell(self, request: Request, response: Response) -> None:
        """A call that may change something has been answered."""
        caller = request.environ.get(CALLER)
        if caller is None or request.method not in CHANGING:
            return
        fields, changed = request.environ.get(NOTED, ({}, True))
        level = logging.INFO if changed else logging.DEBUG
        address = request.environ.get("REMOTE_ADDR", "-")
        told = {"who": caller.name, "client": address, "method": request.method, "path": request.path}
        told |= {**request.environ.get(SUBJECT, {}), **fields}
        if caller is ANONYMOUS:
            quiet = self._anonymous.due(str(address), time.monotonic())
            if quiet is None:
                return
            told["more"] = quiet
        if LOG.wants(level, EVENT):
            LOG.write(level, EVENT, {**told, "result": response.status_code})
