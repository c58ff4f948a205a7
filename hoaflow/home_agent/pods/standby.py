# SPDX-License-Identifier: Apache-2.0
"""Stand by for a home agent address, with its binding cache in memory, until this pod owns it."""

import queue
import threading
import time

from hoaflow.etcd import EtcdClient, EtcdError, follow
from hoaflow.etcd.watch import Changes
from hoaflow.home_agent.pods.keys import Copy, Keys, owner_name, owner_value
from hoaflow.home_agent.pods.ownership import Ownership
from hoaflow.home_agent.pods.shared_cache import SharedCache
from hoaflow.logs import Log

LOG = Log("home-agent")


class Standby:
    """Follows what etcd holds, in a thread, and tries to become the owner whenever there is none."""

    def __init__(self, client: EtcdClient, keys: Keys, pod: str, lease_seconds: int) -> None:
        self._client, self._keys, self._pod, self._lease_seconds = client, keys, pod, lease_seconds
        self._copy = Copy(keys)
        self._news: queue.SimpleQueue[Changes] = queue.SimpleQueue()
        self._over = self._stopped = self._failing = False
        self.serving = "nobody known yet"
        """The name of the pod that serves. Probes' threads read it."""

    def wait(self) -> SharedCache | None:
        """Return the cache once this pod owns the address, None after `stop`."""
        threading.Thread(target=self._follow, name="standby", daemon=True).start()
        ownership: Ownership | None = None
        try:
            while not self._stopped:
                self._copy.take(self._news.get())
                if ownership is not None and ownership.lost is not None:
                    ownership = None
                owner = self._copy.owner
                # The watch shows changes in their order. So with our own key, all that former owners have written is
                # in the copy, and they can't write any more.
                if ownership is not None and owner is not None and owner.lease == ownership.lease:
                    taken, ownership = ownership, None
                    return SharedCache(taken, self._keys, self._copy.records)
                self._say_owner()
                if ownership is None:
                    ownership = self._acquire()
            return None
        finally:
            self._over = True
            if ownership is not None:
                ownership.close()

    def stop(self) -> None:
        """End `wait`. Signal handlers may call this."""
        self._stopped = True
        self._news.put({})

    def _acquire(self) -> Ownership | None:
        if self._copy.owner is not None or self._stopped:
            return None
        try:
            return Ownership.acquire(
                self._client, self._keys.owner, owner_value(self._pod, time.time()), self._lease_seconds
            )
        except EtcdError as error:
            self._note(error)
            return None

    def _say_owner(self) -> None:
        owner = owner_name(self._copy.owner)
        if owner != self.serving:
            self.serving = owner
            LOG.info("standing-by", serving=owner, known_home_addresses=len(self._copy.records))

    def _follow(self) -> None:
        try:
            for changes in follow(self._client, self._keys.prefix, self._note):
                if self._over:
                    return
                self._failing = False
                self._news.put(changes)
        except EtcdError:
            return  # see `_note`

    def _note(self, error: EtcdError) -> None:
        """Log the beginning of a failure. Raises the error if nobody waits any more."""
        if self._over:
            raise error
        if not self._failing:
            LOG.error("etcd-unreachable", reason=error, effect="this pod can't take over", action="retry")
        self._failing = True
