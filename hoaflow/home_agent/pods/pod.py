# SPDX-License-Identifier: Apache-2.0
"""Serve a home agent address in turn with other pods: stand by, serve, and stand by again when it is lost."""

import threading
from contextlib import ExitStack, closing

from hoaflow.etcd import EtcdClient
from hoaflow.home_agent.agent import HomeAgent
from hoaflow.home_agent.leftovers import remove_leftovers
from hoaflow.home_agent.pods.keys import Keys, Shared
from hoaflow.home_agent.pods.serving import HOME_LINK_DOWN
from hoaflow.home_agent.pods.standby import Standby
from hoaflow.home_agent.settings import Settings
from hoaflow.logs import Log
from hoaflow.metrics.server import MetricsServer, registry_of_process
from hoaflow.mobility.namespace_lock import lock_namespace
from hoaflow.mobility.tunnels import KERNEL_ERRORS

LONGEST_ANSWER = 1.0
"""Seconds that etcd's endpoints have to answer, all together, so that the lease outlives one that fails."""

PAUSE = 5.0
"""Seconds until a pod that could not serve, or not on its home link, stands by again."""

LOG = Log("home-agent")


class Pod:
    """One of several pods for a home agent address. Call `setup`, then `run`, then `close`, as a HomeAgent's."""

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared
        self._keys = Keys(shared.cache, settings.policy.home_agent)
        self._client = EtcdClient(shared.endpoints, shared.access, timeout=LONGEST_ANSWER / len(shared.endpoints))
        self._turn: Standby | HomeAgent | None = None
        self._stopped = threading.Event()

    def setup(self) -> None:
        """Remove what a killed process has left, so that its kernel serves nobody. Raises one of KERNEL_ERRORS."""
        with closing(lock_namespace()):
            remove_leftovers(self._settings)

    def run(self) -> None:
        """Serve whenever this pod owns the address, until `stop`. Raises OSError if the namespace has another one."""
        while not self._stopped.is_set():
            standby = self._turn = Standby(self._client, self._keys, self._shared.pod, self._shared.lease)
            with self._probes(standby), closing(lock_namespace()):
                cache = None if self._stopped.is_set() else standby.wait()
            if cache is not None:
                with closing(cache):
                    serves = self._serve(HomeAgent(self._settings, cache))
                if not serves or cache.ownership.lost == HOME_LINK_DOWN:
                    self._stopped.wait(PAUSE)  # for another pod to take the address

    def stop(self) -> None:
        """End `run`. Signal handlers may call this."""
        self._stopped.set()
        if self._turn is not None:
            self._turn.stop()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _serve(self, agent: HomeAgent) -> bool:
        """Serve until the address is lost or `stop` is called; return False if the kernel does not let us."""
        self._turn = agent
        with closing(agent):
            try:
                agent.setup()
            except KERNEL_ERRORS as error:
                LOG.error("cannot-serve", reason=error, effect="the address goes to another pod", action="retry")
                return False
            LOG.info("serving", pod=self._shared.pod)
            if not self._stopped.is_set():
                agent.run()
        return True

    def _probes(self, standby: Standby) -> ExitStack:
        """Tell probes that this pod is alive but not ready, as another one serves."""
        stack = ExitStack()
        if self._settings.metrics is not None:
            server = MetricsServer(self._settings.metrics, registry_of_process(), standing_by=lambda: standby.serving)
            stack.callback(server.close)
        return stack
