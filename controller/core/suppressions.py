# SPDX-License-Identifier: Apache-2.0
"""Remember of which packets an on-demand router's switch tells nothing for a while, as no flow can take them.

It costs memory for each home address, and anybody can send packets to all of a home prefix: there is a limit for each
router, and one for all of them together.
"""

from collections import Counter
from itertools import islice
from typing import NamedTuple

from controller.core.askers import Askers
from controller.core.flow_sets import Path
from hoaflow.addresses import Prefix

# For how many seconds nothing is told of a home address that can't be offloaded.
SUPPRESSED_FOR = 30
# For how many of them at a time, per router, and on all routers together.
MOST_SUPPRESSED, MOST_TOGETHER = 3000, 100_000
# How many that have ended are forgotten for each that begins.
FORGOTTEN_AT_ONCE = 2


class Request(NamedTuple):
    """A packet that no flow has taken: of which home address, and if it came from there, by which path."""

    home_address: Prefix
    path: Path | None


class Suppressions:
    """Requests of which one router's switch tells nothing for a while."""

    def __init__(self, dpid: int, askers: Askers) -> None:
        self._dpid = dpid
        self._askers = askers
        self._until: dict[Request, float] = {}  # the first to end first
        self._homes: Counter[Prefix] = Counter()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, request: Request, now: float) -> bool:
        """Have nothing told of such packets for `SUPPRESSED_FOR` seconds; tell whether that is news, and has room."""
        for ended in list(islice(self._until, FORGOTTEN_AT_ONCE)):
            if self._until[ended] <= now:
                self._forget(ended)
        if (
            request in self._until
            or len(self._until) >= MOST_SUPPRESSED
            or len(self._askers.suppressed) >= MOST_TOGETHER
        ):
            return False
        self._until[request] = now + SUPPRESSED_FOR
        self._homes[request.home_address] += 1
        if self._homes[request.home_address] == 1:
            self._askers.suppressed.add(request.home_address, self._dpid)
        return True

    def any_within(self, home_address: Prefix) -> bool:
        """Tell whether nothing is told of a home address, or of one that lies in it."""
        return home_address in self._homes or self._dpid in self._askers.suppressed.within(home_address)

    def clear(self) -> None:
        """Forget all."""
        for request in list(self._until):
            self._forget(request)

    def _forget(self, request: Request) -> None:
        del self._until[request]
        self._homes[request.home_address] -= 1
        if not self._homes[request.home_address]:
            del self._homes[request.home_address]
            self._askers.suppressed.remove(request.home_address, self._dpid)
