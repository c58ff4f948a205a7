# SPDX-License-Identifier: Apache-2.0
"""A played etcd: keys, leases and transactions, on the test's own clock; without quorum it does nothing at all."""

from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from hoaflow.etcd import KeyValue
from hoaflow.etcd.messages import Comparison, Operation


class PlayedEtcd:
    """What the members of an etcd cluster agree on."""

    def __init__(self) -> None:
        self.keys: dict[str, KeyValue] = {}
        self.quorum = True
        self._revision = 1
        self._leases: dict[int, tuple[float, float]] = {}  # how long each lasts, and until when

    def set_quorum(self, there: bool, now: float) -> None:
        """Lose the majority, or get it back; the new leader then lets every lease begin anew."""
        if there and not self.quorum:
            self._leases = {lease: (lasts, now + lasts) for lease, (lasts, _) in self._leases.items()}
        self.quorum = there

    def grant(self, lasts: float, now: float) -> int:
        """Make a lease."""
        lease = self._revision = self._revision + 1
        self._leases[lease] = (lasts, now + lasts)
        return lease

    def keep_alive(self, lease: int, now: float) -> bool:
        """Renew a lease; tell whether it exists."""
        if lease not in self._leases:
            return False
        lasts, _ = self._leases[lease]
        self._leases[lease] = (lasts, now + lasts)
        return True

    def revoke(self, lease: int) -> None:
        """End a lease, and delete its keys."""
        self._leases.pop(lease, None)
        self.keys = {key: held for key, held in self.keys.items() if held.lease != lease}
        self._revision += 1

    def expire(self, now: float) -> bool:
        """End the leases that nobody has renewed; tell whether there were any."""
        ended = [lease for lease, (_, until) in self._leases.items() if until <= now] if self.quorum else []
        for lease in ended:
            self.revoke(lease)
        return bool(ended)

    def transact(self, comparisons: Iterable[Comparison], operations: Iterable[Operation]) -> bool:
        """Carry out a transaction as `hoaflow.etcd.messages` builds them; tell whether it was."""
        if not all(self._holds(each) for each in comparisons):
            return False
        operations = list(operations)
        puts = [each["request_put"] for each in operations if "request_put" in each]
        if any(int(put["lease"]) not in {0, *self._leases} for put in puts):
            return False
        self._revision += 1
        for put in puts:
            self.keys[_decoded(put["key"])] = KeyValue(_decoded(put["value"]), self._revision, int(put["lease"]))
        for each in operations:
            if "request_delete_range" in each:
                self.keys.pop(_decoded(each["request_delete_range"]["key"]), None)
        return True

    def _holds(self, comparison: Comparison) -> bool:
        found = self.keys.get(_decoded(comparison["key"]))
        return int(comparison["mod_revision"]) == (0 if found is None else found.revision)


def _decoded(text: Any) -> str:
    return b64decode(text).decode()
