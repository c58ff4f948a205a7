# SPDX-License-Identifier: Apache-2.0
"""Own a home agent address by a key in etcd that goes with a lease.

etcd alone decides who is the owner. Whatever an owner writes is written only if its own key is unchanged, by revision,
so a former owner that wakes up writes nothing.
"""

import math
import threading
import time
from collections.abc import Sequence

from hoaflow.closing import Closing
from hoaflow.etcd import EtcdClient, EtcdError
from hoaflow.etcd.messages import Operation, put, unchanged
from hoaflow.logs import Log

ABSENT = 0  # the revision of a key that does not exist
RENEWALS_PER_LEASE = 4
"""Times that a lease is renewed while it would last."""

LOG = Log("home-agent")


class Ownership(Closing):
    """One pod's ownership of an address, from `acquire` until it is lost or given back.

    A thread renews the lease. After `lost`, it never comes back: the next one is another Ownership.
    """

    def __init__(self, client: EtcdClient, key: str, lease: int, revision: int, until: float, seconds: int) -> None:
        """Keep what `acquire` has got; `until`: monotonic time at which the lease ends."""
        self._client, self._key, self._seconds = client, key, seconds
        self.lease, self._revision, self._until = lease, revision, until
        self._unanswered_until = -math.inf
        self.lost: str | None = None
        """Why it is over."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ownership", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, client: EtcdClient, key: str, value: str, seconds: int) -> "Ownership | None":
        """Try to become the owner; None if another one was faster. Raises EtcdError."""
        asked = time.monotonic()
        lease = client.grant_lease(seconds)
        client.transact([unchanged(key, ABSENT)], [put(key, value, lease)])
        # Not by the answer: where an answer was lost, the repeated transaction finds its own effect.
        found = client.get(key)
        if found is None or found.lease != lease:
            client.revoke_lease(lease)
            return None
        return cls(client, key, lease, found.revision, asked + seconds, seconds)

    @property
    def left(self) -> float:
        """Seconds for which nobody else can be the owner, 0 if there may be another one.

        As long as this host's monotonic clock counts as etcd's does; `write` needs no clock.
        """
        return max(0.0, self._until - time.monotonic())

    @property
    def certain(self) -> bool:
        """Whether nobody else can be the owner now."""
        return self.left > 0

    @property
    def unanswered(self) -> bool:
        """Whether etcd has been asked of late and did not answer.

        Not so in a process that was stopped itself: as soon as it goes on, it may have been overtaken.
        """
        return self.lost is None and time.monotonic() < self._unanswered_until

    @property
    def seconds(self) -> int:
        """For how long a lease lasts that is not renewed."""
        return self._seconds

    def write(self, operations: Sequence[Operation]) -> bool:
        """Carry operations out if this pod is the owner; if it is no longer, carry none out. Raises EtcdError.

        Without operations it only asks etcd whether this pod is the owner.
        """
        if self.lost is None and not self._client.transact([unchanged(self._key, self._revision)], operations):
            self.lose("etcd has another owner")
        return self.lost is None

    def lose(self, reason: str) -> None:
        """Take in that this pod is the owner no longer."""
        if self.lost is None and not self._closed.is_set():
            LOG.error("ownership-lost", reason=reason, effect="this pod serves nobody any more, and stands by")
        self.lost = self.lost or reason
        self._until = -math.inf

    def close(self) -> None:
        """Give the address back, so that another pod takes it at once. Idempotent."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        self.lose("given back")
        try:
            self._client.revoke_lease(self.lease)
        except EtcdError as error:
            LOG.warning("lease-not-revoked", reason=error, effect=f"others wait up to {self._seconds} s for its end")

    def _keep(self) -> None:
        failing = False
        while self.lost is None and not self._closed.wait(self._seconds / RENEWALS_PER_LEASE):
            asked = time.monotonic()
            try:
                if not self._client.keep_alive(self.lease):
                    self.lose("etcd had no sign of life of this pod for the duration of its lease")
                elif self.write([]):
                    self._until = asked + self._seconds
            except EtcdError as error:
                if not failing:
                    effect = "without it nothing is acknowledged; traffic goes on"
                    LOG.error("etcd-unreachable", reason=error, effect=effect, action="retry")
                failing = True
                self._unanswered_until = time.monotonic() + self._seconds
                continue
            if failing:
                LOG.info("etcd-reachable")
            failing = False
