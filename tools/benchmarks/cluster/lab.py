# SPDX-License-Identifier: Apache-2.0
"""Set up the cluster that is measured: etcd, controllers, switches, a bridge and agents, roaming and traffic."""

import os
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hoaflow.scope import THIS_MEMBER
from tests.support.cluster import Member
from tests.support.etcd import Etcd
from tests.support.ovs import Ovs
from tests.support.played_cluster import connect
from tests.support.waiting import wait_for
from tools.benchmarks.cluster.reporting import Reporter, Roaming
from tools.benchmarks.cluster.watching import FlowWatch
from tools.benchmarks.hoaflow import add_router, bridge, switches
from tools.benchmarks.lab import new_population
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.switch import FlowCounter
from tools.benchmarks.workload import FLOWS_PER_BINDING

SETUP_TIMEOUT = 240.0  # seconds
CN = 3  # OpenFlow number of the port that packets come from


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: `rate` handovers a second in all, `packets` a second on each router."""

    routers: int
    bindings: int
    rate: float
    packets: float
    kills: int
    seconds: float


class ClusterLab:
    """A cluster under load, as long as the context lasts."""

    def __init__(self, directory: Path, plan: Plan, members: int, etcd: bool = True) -> None:
        """Describe a cluster of some members; without `etcd` there is one controller, alone."""
        self.plan = plan
        self.dpids = list(range(1, plan.routers + 1))
        self.population = new_population(plan.bindings)
        (directory / "ovs").mkdir(parents=True)
        self.ovs = Ovs(directory / "ovs")
        self.etcd = Etcd(directory / "etcd", ovs=self.ovs)
        endpoints = self.etcd.endpoints if etcd else []
        self.members = [Member(self.ovs, directory, number + 1, endpoints) for number in range(members)]
        self._with_etcd = etcd
        self._parts = ExitStack()
        self.reporters: list[Reporter] = []

    def __enter__(self) -> "ClusterLab":
        with ExitStack() as parts:
            parts.enter_context(self.ovs)
            if self._with_etcd:
                parts.enter_context(self.etcd)
            for dpid in self.dpids:
                add_router(self.ovs, dpid)
                self.ovs.add_port(bridge(dpid), f"cn{dpid}", CN)
            for member in self.members:
                parts.callback(member.kill)
                member.start()
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def connect(self) -> None:
        """Connect the switches, and wait until each has one that writes to it.

        Members that have just started wait for others before they take a router, for two seconds.
        """
        for dpid in self.dpids:
            connect(self.ovs, bridge(dpid), *(member.openflow for member in self.members))
        mastered = self.masters if self._with_etcd else self._connected
        wait_for("every switch has a master", lambda: set(mastered()) == set(self.dpids), SETUP_TIMEOUT)

    def load(self) -> float:
        """Report all bindings; return the seconds until every router had all flows."""
        started = time.monotonic()
        for member in self.members:
            reporter = Reporter(self.ovs, member, self.population, self.dpids)
            self._parts.callback(reporter.end)
            self.reporters.append(reporter)
        wanted = FLOWS_PER_BINDING * len(self.population)
        with ExitStack() as counting:
            counters = [counting.enter_context(FlowCounter(self.ovs, bridge(dpid))) for dpid in self.dpids]
            # Each is asked every time, for a connection whose echo requests are not answered is closed.
            wait_for("all flows are there", lambda: min([each.count() for each in counters]) >= wanted, SETUP_TIMEOUT)
        loaded = time.monotonic() - started
        self.wait_for_spread()
        return loaded

    def roaming(self) -> Roaming:
        """Return handovers of the first half of the mobile nodes; the others stay."""
        nodes = range(len(self.population) // 2)
        return Roaming(self.reporters, self.population, nodes, self.plan.rate)

    def staying(self) -> list[str]:
        """Return home addresses of mobile nodes that stay."""
        now, last = time.monotonic(), len(self.population)
        return [str(self.population.binding(last - number, now)["home_address"]) for number in range(1, 9)]

    def watch(self) -> FlowWatch:
        """Return what follows all flows from now on."""
        watch = FlowWatch(self.ovs, self.dpids)
        self._parts.callback(watch.end)
        wait_for("each switch tells of its flows", lambda: watch.renewed.keys() == set(self.dpids), SETUP_TIMEOUT)
        return watch

    # Masters.

    def masters(self) -> dict[int, str]:
        """Return the routers' masters, as etcd has them."""
        member = next(member for member in self.members if member.answers)
        routers = member.call("GET", "/v1/cluster").body["routers"]
        return {int(each["dpid"], 16): each["master"] for each in routers if each["master"] is not None}

    def mastered_by(self, member: Member) -> list[int]:
        """Return the routers that a member is master of."""
        return [dpid for dpid, master in self.masters().items() if master == member.name]

    def wait_for_spread(self) -> None:
        """Wait until routers are spread evenly over the members, each in sync."""
        if not self._with_etcd:
            return
        share = -(-len(self.dpids) // len(self.members))

        def is_even() -> bool:
            masters = self.masters()
            counts = Counter(masters.values())
            even = len(counts) == len(self.members) and max(counts.values()) <= share
            return even and masters.keys() == set(self.dpids) and self._open_gates() == len(self.dpids)

        wait_for("routers are spread evenly", is_even, SETUP_TIMEOUT)

    def clock(self) -> Stopwatch:
        """Return a clock of the processor time of all parts that run."""
        members = {member.name: member.pid for member in self.members if member.answers}
        return Stopwatch(members | self.etcd.pids | switches(self.ovs) | {"benchmark": os.getpid()})

    def _connected(self) -> set[int]:
        """Return the routers whose switches are connected to a member."""
        routers = [each for member in self.members for each in self._routers(member)]
        return {int(str(each["dpid"]), 16) for each in routers if each["connected"]}

    def _routers(self, member: Member) -> list[dict[str, object]]:
        """Return the routers by a member's word, none if it does not answer."""
        if not member.answers:
            return []
        return list(member.call("GET", "/v1/routers", headers=THIS_MEMBER).body["routers"])

    def _open_gates(self) -> int:
        """Return how many routers have open gates, by their masters' word."""
        return sum(bool(each["gates"]) for member in self.members for each in self._routers(member))
