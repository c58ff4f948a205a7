# SPDX-License-Identifier: Apache-2.0
"""Keep the binding cache in etcd, where another pod finds it: written before an acknowledgement goes out."""

import time
from collections.abc import Mapping

from hoaflow.etcd import EtcdError
from hoaflow.etcd.messages import Operation, delete, put
from hoaflow.home_agent.cache import BindingCache, Install
from hoaflow.home_agent.journal import UNUSABLE, Record, decoded, encoded
from hoaflow.home_agent.persistence import known, restored
from hoaflow.home_agent.pods.keys import Keys
from hoaflow.home_agent.pods.ownership import Ownership
from hoaflow.home_agent.timestamp import Timestamp
from hoaflow.logs import Log

OPERATIONS_AT_ONCE = 100
"""Most operations of one transaction. etcd takes 128 (--max-txn-ops)."""
RETRY_SECONDS, RETRY_SHARE = 0.1, 4
"""An etcd that fails is tried again after this many seconds, or this many times the failed attempt's duration."""

LOG = Log("home-agent")


class SharedCache:
    """Keeps the cache in etcd while `ownership` lasts. The same methods as Persistence has, which see."""

    def __init__(self, ownership: Ownership, keys: Keys, texts: Mapping[str, str]) -> None:
        """Take over what former owners have written. `texts`: records by home address, as JSON."""
        self.ownership, self._keys = ownership, keys
        self._records: dict[str, Record] = {}
        for home_address, text in texts.items():
            try:
                self._records[home_address] = decoded(text)
            except UNUSABLE as error:
                LOG.error("cache-record-unusable", key=keys.binding(home_address), reason=error)
        self._unwritten: dict[str, Record] = {}
        self._failing, self._retry_at = False, 0.0
        self.sequences = {r.home_address: r.sequence for r in self._records.values() if r.sequence is not None}
        """Last authenticated sequence numbers that any pod has seen, by home address."""

    @property
    def may_serve(self) -> bool:
        """Whether messages are to be handled: nobody else has the address."""
        return self.ownership.certain

    @property
    def unwritten(self) -> int:
        """Number of home addresses whose state is not in etcd, so that a takeover would lose it."""
        return len(self._unwritten)

    def restore(self, cache: BindingCache) -> list[Install]:
        """Restore the bindings to the cache; return what is to be put into the kernel."""
        bound = [record.home_address for record in self._records.values() if record.update is not None]
        installs = restored(self._records, cache)
        for home_address in bound:
            if cache.get(home_address) is None:  # over since its owner died, and nobody will tell etcd otherwise
                self.record(cache, home_address)
        LOG.info("cache-taken-over", bindings=len(installs), sequence_numbers=len(self.sequences))
        return installs

    def record(self, cache: BindingCache, home_address: str) -> None:
        """Note the state of a home address; `commit` writes it to etcd."""
        self._unwritten[home_address] = known(cache, home_address, Timestamp.now())

    def commit(self, cache: BindingCache, answering: bool = False) -> bool:
        """Write what was noted; return whether acknowledgements may go out (`answering`: there are some).

        They may only if etcd has everything, and has said after they were made that this pod is the owner.
        """
        if not self._unwritten and not answering:
            return True
        if self.ownership.lost is not None or (self._failing and time.monotonic() < self._retry_at):
            return False
        begun = time.monotonic()
        try:
            owner = self._write()
        except EtcdError as error:
            ended = time.monotonic()
            self._retry_at = ended + max(RETRY_SECONDS, RETRY_SHARE * (ended - begun))
            if not self._failing:
                LOG.error("cache-not-written", reason=error, effect="nothing is acknowledged", action="retry")
            self._failing = True
            return False
        if self._failing:
            LOG.info("cache-written-again")
        self._failing = False
        return owner and self.ownership.certain

    def close(self) -> None:
        """Give the address back."""
        self.ownership.close()

    def _write(self) -> bool:
        """Write in one transaction or several; return False as soon as this pod is no longer the owner."""
        while True:
            batch = list(self._unwritten.values())[:OPERATIONS_AT_ONCE]
            if not self.ownership.write([self._operation(record) for record in batch]):
                return False
            for record in batch:
                del self._unwritten[record.home_address]
            if not self._unwritten:
                return True

    def _operation(self, record: Record) -> Operation:
        key = self._keys.binding(record.home_address)
        return delete(key) if record.empty else put(key, encoded(record))
