# SPDX-License-Identifier: Apache-2.0
"""Keep the binding cache in the journal, and restore it after a restart."""

import time
from collections import Counter
from pathlib import Path

from hoaflow.home_agent.cache import BindingCache, Install, State
from hoaflow.home_agent.journal import Journal, Record
from hoaflow.home_agent.timestamp import Timestamp
from hoaflow.logs import Log

RETRY_SECONDS, RETRY_SHARE = 1.0, 20
"""A failing disk is tried again after this many seconds, or this many times the failed attempt's duration."""
CLOCK_SET_SECONDS = 2.0
"""Difference between two clocks that does not mean that one was set."""

LOG = Log("home-agent")


class Persistence:
    """Keeps the cache in the journal at `path`; without one, nothing survives the process."""

    def __init__(self, path: Path | None) -> None:
        """Read the journal. Raises JournalError, OSError."""
        self._path = path
        self._journal = None if path is None else Journal(path)
        self._failing = False
        self._retry_at = 0.0
        found = self._journal.records.values() if self._journal is not None else ()
        self.sequences = {r.home_address: r.sequence for r in found if r.sequence is not None}
        """Last authenticated sequence numbers from before the restart, by home address."""

    @property
    def may_serve(self) -> bool:
        """Whether messages are to be handled: nobody else has the address."""
        return True

    @property
    def unwritten(self) -> int:
        """Number of home addresses whose state is not on the disk, so that a restart would lose it."""
        return 0 if self._journal is None else self._journal.unwritten

    def restore(self, cache: BindingCache) -> list[Install]:
        """Restore the journal's bindings to the cache; return what is to be put into the kernel.

        Bindings that are not restored as they were are logged, with the reason.
        """
        if self._journal is None:
            return []
        for damage in self._journal.damages:
            LOG.error("journal-damaged", file=self._path, line=damage.line, reason=damage.reason)
        installs = restored(self._journal.records, cache)
        LOG.info("journal-read", file=self._path, bindings=len(installs))
        return installs

    def record(self, cache: BindingCache, home_address: str) -> None:
        """Note the state of a home address; `commit` writes it to the disk."""
        if self._journal is not None:
            self._journal.record(known(cache, home_address, Timestamp.now()))

    def commit(self, cache: BindingCache, answering: bool = False) -> bool:
        """Write what was noted and wait for the disk. If it fails, write everything once it works again.

        The beginning and the end of a failure are logged. Returns whether acknowledgements may go out (`answering`:
        there are some): always, as a home agent without a disk serves better than none.
        """
        if self._journal is None or not self.unwritten or (self._failing and time.monotonic() < self._retry_at):
            return True

        def everything() -> list[Record]:
            now = Timestamp.now()
            return [known(cache, a, now) for a in {b.home_address for b in cache} | cache.sequences.keys()]

        begun = time.monotonic()
        try:
            if not self._journal.commit(everything):
                found = "moved, removed or changed by somebody"
                LOG.warning("journal-changed", file=self._path, found=found, action="written anew, as a whole")
        except OSError as error:
            ended = time.monotonic()
            self._retry_at = ended + max(RETRY_SECONDS, RETRY_SHARE * (ended - begun))
            if not self._failing:
                effect = "a restart would lose what has changed since"
                LOG.error("journal-not-written", file=self._path, reason=error, effect=effect, action="retry")
            self._failing = True
            return True
        if self._failing:
            LOG.info("journal-written-again", file=self._path)
        self._failing = False
        return True

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()


def restored(records: dict[str, Record], cache: BindingCache) -> list[Install]:
    """Move the bindings of records, which this empties, to the cache; return what is to be put into the kernel.

    Bindings that are not restored as they were are logged, with the reason.
    """
    installs: list[Install] = []
    remarks: Counter[str] = Counter()
    clock_set = [0.0]
    now = Timestamp.now()
    while records:
        _, record = records.popitem()
        if record.update is None:
            continue
        clock_set.append(now.clock_set_since(record.expiry))
        left = record.expiry.seconds_since(now)
        if left <= 0:
            certain = record.expiry.same_boot(now)
            remarks["left out: expired" + ("" if certain else " by the host's clock, of another boot")] += 1
            continue
        if left > record.lifetime:
            remarks["kept for a whole lifetime: the host's clock was set back"] += 1
            left = record.lifetime
        actions = cache.restore(record.update, record.lifetime, left, time.monotonic())
        taken = [action for action in actions if isinstance(action, Install)]
        remarks["left out: the settings no longer cover them"] += not taken
        installs += taken
    if abs(step := max(clock_set, key=abs)) > CLOCK_SET_SECONDS:
        LOG.warning("clock-set", seconds=round(step), lifetimes="by the time since the host's boot")
    for remark, bindings in (+remarks).items():
        LOG.warning("journal-bindings", remark=remark, bindings=bindings)
    return installs


def known(cache: BindingCache, home_address: str, now: Timestamp) -> Record:
    """Return what must be known of a home address after a restart."""
    binding, sequence = cache.get(home_address), cache.sequences.get(home_address)
    if binding is None or binding.state is not State.REGISTERED:
        return Record(home_address, sequence)
    return Record(home_address, sequence, binding.update, binding.lifetime, now.plus(binding.due - time.monotonic()))
