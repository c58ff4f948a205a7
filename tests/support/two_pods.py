# SPDX-License-Identifier: Apache-2.0
"""Two pods for one home agent address in Mininet, each with a bridge, and everything else of hoaflow around them.

    … core ── slow ── ha ── home link ── p1, p2, mn

See `topologies/roaming.py` for the rest. Node `ha` is the router of the home link here; the home agent's address is on
`p1` or `p2`.
"""

import sys
from pathlib import Path

from tests.support.etcd import CLIENT_PORT
from topologies import addresses as at
from topologies.deployment import REST, START_TIMEOUT, Deployment
from topologies.nodes import IpNode
from topologies.ovs_router import USER
from topologies.processes import Process
from topologies.roaming import RoamingTopo
from topologies.testbed import Testbed
from topologies.tokens import BRIDGE

GATEWAY = "2001:db8:99::fe"
PODS = {"p1": ("2001:db8:99::11", "192.0.2.3"), "p2": ("2001:db8:99::12", "192.0.2.4")}
"""Each pod's own addresses on the home link and on the management network."""
CACHE = f"etcd://{at.MANAGEMENT_ROOT}:{CLIENT_PORT}/lab"
CACHE_LEASE = 8
"""Seconds: longer than the default, as this machine may leave a process alone for a while."""


class TwoPodsTopo(RoamingTopo):
    """Add the pods to the roaming topology, behind the home link's router."""

    def build(self, datapath: str = USER, delay: float = 5.0) -> None:
        """Build the network (see `RoamingTopo.build`)."""
        super().build(datapath, delay)
        for pod in PODS:
            self.link("mgmt", f"mgmt-{pod}", pod, f"{pod}-mgmt")

    def add_mobile_node(self) -> None:
        """Add the pods as well, and give the home agent's address to none of them."""
        super().add_mobile_node()
        self.nodeInfo("ha")["addresses"]["ha-home"] = [f"{GATEWAY}/64"]
        for pod, (own, management) in PODS.items():
            self.addHost(
                pod,
                cls=IpNode,
                address=own,
                addresses={
                    f"{pod}-home": [f"{own}/64"],
                    f"{pod}-mgmt": [f"{management}/{at.MANAGEMENT_PREFIX_LENGTH}"],
                },
                routes={"default": GATEWAY},
            )
            self.link("home", f"home-{pod}", pod, f"{pod}-home")


class TwoPods(Deployment):
    """Run a pod and a bridge in each of `p1` and `p2`; an etcd has to run in the root namespace."""

    def __init__(self, bed: Testbed) -> None:
        super().__init__(bed, lifetime=600, lease=60)

    def start_pod(self, pod: str) -> Process:
        """Start a pod, and wait until it has read the cache."""
        command = [sys.executable, "-m", "hoaflow.home_agent", "--home-agent", at.HOME_AGENT]
        command += ["--home-prefix", at.HOME_PREFIX, "--home-link", f"{pod}-home", "--keys", str(self.keys)]
        command += ["--cache", CACHE, "--cache-lease", str(CACHE_LEASE), "--pod", pod, "--log-addresses"]
        process = self.bed.start(pod, command, node=pod)
        process.wait_for("event=standing-by ", START_TIMEOUT)
        return process

    def start_anchor(self, journal: Path | None = None) -> Process:
        """Start both pods, of which the first one serves."""
        first = self.start_pod("p1")
        first.wait_for("event=serving ", START_TIMEOUT)
        self.start_pod("p2").wait_for("event=standing-by serving=p1 ", START_TIMEOUT)
        return first

    def start_bridge(self) -> Process:
        """Start the bridge beside each pod."""
        first, _ = (self._start_bridge(pod) for pod in PODS)
        return first

    def _start_bridge(self, pod: str) -> Process:
        command = [sys.executable, "-m", "ha_bridge", "--controller", REST, "--home-agent", at.HOME_AGENT]
        command += ["--home-prefix", at.HOME_PREFIX, "--lease", str(self.lease), "--log-addresses"]
        command += ["--cache", CACHE, "--pod", pod, "--token-file", str(self.tokens.file(BRIDGE))]
        return self.bed.start(f"bridge-{pod}", command, node=pod)
