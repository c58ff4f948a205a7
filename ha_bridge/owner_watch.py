# SPDX-License-Identifier: Apache-2.0
"""Follow in etcd which of several pods owns the home agent's address."""

from collections.abc import Callable

from ha_bridge.model import Owner
from hoaflow.etcd import EtcdAccess, EtcdClient, EtcdError, follow
from hoaflow.home_agent.pods.keys import Keys, owner_name
from hoaflow.logs import Log

ANSWER_WITHIN = 2.0
"""Seconds that each of etcd's members has to answer."""

LOG = Log("bridge")


class OwnerWatch:
    """Call `changed(owner, here)` whenever there is another owner; `here`: it is the pod with the name `pod`.

    An owner whose key is gone is the last one known: until there is another, nobody else has acknowledged anything.
    """

    def __init__(
        self,
        endpoints: tuple[str, ...],
        access: EtcdAccess,
        keys: Keys,
        pod: str,
        changed: Callable[[Owner, bool], None],
    ) -> None:
        self._endpoints, self._access = endpoints, access
        self._keys, self._pod, self._changed = keys, pod, changed
        self._failing = False

    def run(self) -> None:
        """Follow the owner's key for as long as the process runs."""
        with EtcdClient(self._endpoints, self._access, timeout=ANSWER_WITHIN) as client:
            for changes in follow(client, self._keys.owner, self._note):
                if self._failing:
                    LOG.info("etcd-reachable")
                self._failing = False
                if (found := changes.get(self._keys.owner)) is not None:
                    owner = Owner(owner_name(found), found.revision)
                    self._changed(owner, owner.name == self._pod)

    def _note(self, error: EtcdError) -> None:
        if not self._failing:
            effect = "a takeover is noticed only by the controllers, which refuse what a former owner's bridge says"
            LOG.warning("etcd-unreachable", reason=error, effect=effect, action="retry")
        self._failing = True
