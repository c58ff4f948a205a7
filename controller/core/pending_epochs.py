# SPDX-License-Identifier: Apache-2.0
"""Remember since which epoch each subject is pending, to tell when all is done that was known at a moment.

A gate opens onto nothing stale if all that was pending when it was asked for is done. It need not wait for what
has come up since, as that may also come up while a gate stands.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from typing import NamedTuple

ALL_HOME_AGENTS = b""


class Since(NamedTuple):
    """The epoch since which something is pending, and the home agent whose bridge's report has made it so.

    ``home_agent``: None if no report has, `ALL_HOME_AGENTS` if reports of several have.
    """

    epoch: int
    home_agent: bytes | None

    def and_since(self, other: "Since") -> "Since":
        """Return what holds for something that is pending since both."""
        home_agents = {self.home_agent, other.home_agent} - {None}
        home_agent = next(iter(home_agents), None) if len(home_agents) < 2 else ALL_HOME_AGENTS
        return Since(min(self.epoch, other.epoch), home_agent)


class PendingEpochs:
    """Things that are pending, each since an epoch.

    ``mark`` ends an epoch; ``passed`` tells whether all of that epoch and those before is done.
    """

    def __init__(self) -> None:
        self._epoch = 0
        self._now: dict[
            bytes | None, Since
        ] = {}  # the present epoch, by home agent; one object for all that it holds of
        self._since: dict[Hashable, Since] = {}
        self._counts: Counter[int] = Counter()
        self._of_reports: defaultdict[bytes, Counter[int]] = defaultdict(Counter)  # by home agent

    def __bool__(self) -> bool:
        return bool(self._since)

    def now(self, home_agent: bytes | None = None) -> Since:
        """Return the present epoch, for what a home agent's bridge reports or, None, for all else."""
        since = self._now.get(home_agent)
        if since is None:
            since = self._now[home_agent] = Since(self._epoch, home_agent)
        return since

    def since(self, thing: Hashable) -> Since:
        """Return since when a thing is pending, the present epoch if it is not."""
        return self._since.get(thing) or self.now()

    def add(self, thing: Hashable, since: Since | None = None) -> None:
        """Make a thing pending since an epoch, None for the present one, unless it is since an earlier one."""
        since = self.now() if since is None else since
        before = self._since.get(thing)
        if before is since:
            return
        if before is not None:
            since = before.and_since(since)
            if since == before:
                return
            self._uncount(before)
        self._since[thing] = since
        self._counts[since.epoch] += 1
        if since.home_agent is not None:
            self._of_reports[since.home_agent][since.epoch] += 1

    def add_all(self, things: Iterable[Hashable]) -> None:
        """Make things pending since the present epoch, unless they are already."""
        for thing in things:
            self.add(thing)

    def done(self, thing: Hashable) -> Since:
        """Record that a thing is done; return since when it was pending, the present epoch if it was not."""
        since = self._since.pop(thing, None)
        if since is None:
            return self.now()
        self._uncount(since)
        if not self._since:
            self._since.clear()  # a dictionary keeps the room of all that was ever in it
        return since

    def mark(self) -> int:
        """End the present epoch and return it."""
        self._epoch += 1
        self._now.clear()
        return self._epoch - 1

    def passed(self, mark: int, home_agent: bytes | None = None) -> bool:
        """Tell whether nothing is pending since ``mark`` or an earlier epoch.

        With a home agent, only what its bridge has reported counts.
        """
        if home_agent is None:
            return not self._counts or min(self._counts) > mark
        counts = (self._of_reports.get(each) for each in (home_agent, ALL_HOME_AGENTS))
        return not any(each and min(each) <= mark for each in counts)

    def clear(self) -> None:
        """Forget all that is pending."""
        self._since.clear()
        self._counts.clear()
        self._of_reports.clear()

    def _uncount(self, since: Since) -> None:
        _take_one(self._counts, since.epoch)
        if since.home_agent is not None:
            _take_one(self._of_reports[since.home_agent], since.epoch)


def _take_one(counts: Counter[int], epoch: int) -> None:
    counts[epoch] -= 1
    if not counts[epoch]:
        del counts[epoch]
