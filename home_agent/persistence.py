# SPDX-License-Identifier: Apache-2.0
"""Keeps the binding cache in the journal, and brings it back after a restart."""

from __future__ import annotations

import time
from pathlib import Path

from home_agent.cache import BindingCache, Install, State
from home_agent.journal import Journal, Record
from logs import Log

LOG = Log("home-agent")


class Persistence:
    """The journal at `path`; without one, nothing outlives the process. Raises JournalError, OSError."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._journal = None if path is None else Journal(path)
        found = self._journal.records.values() if self._journal is not None else ()
        self.sequences = {r.home_address: r.sequence for r in found if r.sequence is not None}
        """Last authenticated sequence numbers of an earlier life, by home address."""

    def restore(self, cache: BindingCache) -> list[Install]:
        """Has the cache know again what the journal holds; what is due in the kernel is returned."""
        if self._journal is None:
            return []
        for damage in self._journal.damages:
            LOG.error("journal-damaged", file=self._path, line=damage.line, reason=damage.reason)
        installs = []
        while self._journal.records:
            _, record = self._journal.records.popitem()
            left = record.expires - time.time()
            if record.update is not None and 0 < left <= record.lifetime:
                actions = cache.restore(record.update, record.lifetime, left, time.monotonic())
                installs += [action for action in actions if isinstance(action, Install)]
        LOG.info("journal-read", file=self._path, bindings=len(installs))
        return installs

    def record(self, cache: BindingCache, home_address: str) -> None:
        """Notes how a home address stands; `commit` brings it to the disk."""
        if self._journal is not None:
            self._journal.record(_known(cache, home_address))

    def commit(self, cache: BindingCache) -> None:
        """Returns when what was noted is on the disk. A disk that fails is reported; all is written once it works."""
        if self._journal is None:
            return
        try:
            self._journal.commit(
                lambda: [_known(cache, address) for address in {b.home_address for b in cache} | cache.sequences.keys()]
            )
        except OSError as error:
            LOG.error("journal-not-written", file=self._path, reason=error)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()


def _known(cache: BindingCache, home_address: str) -> Record:
    binding, sequence = cache.get(home_address), cache.sequences.get(home_address)
    if binding is None or binding.state is not State.REGISTERED:
        return Record(home_address, sequence)
    expires = time.time() + binding.due - time.monotonic()
    return Record(home_address, sequence, binding.update, binding.lifetime, expires)
