# SPDX-License-Identifier: Apache-2.0
"""Measure what users notice while parts of a cluster die."""

import math
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.cluster import Member
from tests.support.waiting import wait_for
from tools.benchmarks.cluster.lab import ClusterLab
from tools.benchmarks.cluster.reporting import Roaming
from tools.benchmarks.cluster.watching import FlowWatch, NewMasters, Traffic
from tools.benchmarks.figures import Figure, percentile

DRAINED = 3.0  # seconds after which the last handover has arrived everywhere
TAKEN_OVER_WITHIN = 60.0  # seconds
KILLING_ENDS_AFTER = 480.0  # seconds, after which no further master is killed: a slow machine comes to an end as well


@dataclass(slots=True)
class Bench:
    """The cluster under load, and what watches it."""

    lab: ClusterLab
    roaming: Roaming
    watch: FlowWatch

    def traffic(self) -> Traffic:
        """Return traffic to mobile nodes that stay."""
        return Traffic(self.lab.ovs, self.lab.dpids, self.lab.staying(), self.lab.plan.packets)

    def delays(self, begin: float, end: float, dpids: Iterable[int]) -> list[float]:
        """Return how long each handover reported meanwhile took to reach these routers, in seconds."""
        time.sleep(DRAINED)
        chosen = list(dpids)
        return [
            self.watch.arrived.get((dpid, address), time.monotonic()) - posted
            for address, posted in list(self.roaming.posted.items())
            if begin <= posted < end
            for dpid in chosen
        ]

    def closed_since(self, moment: float) -> int:
        """Return how many gates have closed."""
        return sum(at >= moment for at, _ in self.watch.closed)


def usual(bench: Bench) -> list[Figure]:
    """Measure handovers while nothing dies."""
    begin, clock = time.monotonic(), bench.lab.clock()
    with bench.traffic() as traffic:
        time.sleep(bench.lab.plan.seconds)
        cpu, lost = clock.cpu(), traffic.lost()
    delays = bench.delays(begin, begin + bench.lab.plan.seconds, bench.lab.dpids)
    return [
        Figure(
            "nothing dies: handover until its packets go there",
            _times(delays),
            reason=f"processor time in {bench.lab.plan.seconds:.0f} s: {_times_of([cpu])}",
            samples={"seconds": delays[:1000], "cpu": cpu},
        ),
        Figure("nothing dies: packets lost", f"{lost} of {traffic.sent}", goal="0", met=lost == 0),
    ]


def kills(bench: Bench) -> list[Figure]:
    """Kill masters, one after the other."""
    lab, takeovers, read, delays, others, lost, sent, closed = bench.lab, [], [], [], [], 0, 0, 0
    cpu: list[dict[str, float]] = []
    ends = time.monotonic() + KILLING_ENDS_AFTER
    for turn in range(lab.plan.kills):
        if time.monotonic() > ends:
            break
        victim = lab.members[turn % len(lab.members)]
        routers = lab.mastered_by(victim)
        begin = time.monotonic()
        with bench.traffic() as traffic:
            killing = _Takeover(bench, routers)
            victim.kill()
            clock = lab.clock()
            takeover = killing.wait()
            read.append(killing.read)
            cpu.append(clock.cpu())
            lost, sent = lost + traffic.lost(), sent + traffic.sent
        takeovers.append(takeover)
        delays += bench.delays(begin, begin + takeover, routers)
        others += bench.delays(begin, begin + takeover, set(lab.dpids) - set(routers))
        closed += bench.closed_since(begin)
        victim.start()
        lab.wait_for_spread()
    p99 = percentile(takeovers, 99)
    return [
        Figure("master killed: gates closed", str(closed), goal="0", met=closed == 0),
        Figure("master killed: packets lost", f"{lost} of {sent}", goal="0", met=lost == 0),
        Figure(
            "master killed: until its last router has a master in sync",
            f"p50 {percentile(takeovers, 50):.2f} s, p99 {p99:.2f} s ({len(takeovers)} times)",
            goal="p99 ≤ 5 s",
            met=p99 <= 5,
            reason=f"processor time of those that are left: {_times_of(cpu)}",
            samples={"seconds": takeovers, "cpu": cpu},
        ),
        Figure("master killed: until the flows of its last router have been read", _times(read)),
        Figure(
            "handover reported meanwhile, routers of the dead master",
            _times(delays),
            goal="p99 ≤ 6 s",
            met=percentile(delays, 99) <= 6,
        ),
        Figure("handover reported meanwhile, other routers", _times(others)),
    ]


def no_quorum(bench: Bench) -> list[Figure]:
    """Take etcd's majority away."""
    lab = bench.lab
    before, begin = lab.masters(), time.monotonic()
    with bench.traffic() as traffic:
        lab.etcd.kill(0)
        lab.etcd.kill(1)
        time.sleep(lab.plan.seconds)
        end = time.monotonic()
        lost = traffic.lost()
    delays, closed = bench.delays(begin, end, lab.dpids), bench.closed_since(begin)
    lab.etcd.start(0)
    lab.etcd.start(1)
    wait_for("etcd answers", lambda: lab.members[0].call("GET", "/v1/cluster").body["etcd"]["reachable"])
    kept = lab.masters() == before
    name = f"etcd without quorum for {lab.plan.seconds:.0f} s"
    return [
        Figure(f"{name}: gates closed", str(closed), goal="0", met=closed == 0),
        Figure(f"{name}: packets lost", f"{lost} of {traffic.sent}", goal="0", met=lost == 0),
        Figure(f"{name}: handover", _times(delays), goal="as ever", met=None),
        Figure(f"{name}: masters afterwards", "the same" if kept else "others", goal="the same", met=kept),
    ]


def upgrade(bench: Bench) -> list[Figure]:
    """Restart all members in order, one after the other."""
    lab, begin, takeovers = bench.lab, time.monotonic(), []
    with bench.traffic() as traffic:
        for member in lab.members:
            restart = _Takeover(bench, lab.mastered_by(member))
            member.kill(signal.SIGTERM)
            takeovers.append(restart.wait())
            member.start()
            lab.wait_for_spread()
        end, lost = time.monotonic(), traffic.lost()
    delays, closed = bench.delays(begin, end, lab.dpids), bench.closed_since(begin)
    return [
        Figure("rolling upgrade: gates closed", str(closed), goal="0", met=closed == 0),
        Figure("rolling upgrade: packets lost", f"{lost} of {traffic.sent}", goal="0", met=lost == 0),
        Figure("rolling upgrade: until the last router has a master in sync", _times(takeovers)),
        Figure("rolling upgrade: handover", _times(delays)),
    ]


def stopped(bench: Bench) -> list[Figure]:
    """Stop a master for a while, and let it go on."""
    lab = bench.lab
    victim: Member = lab.members[0]
    stop, begin = _Takeover(bench, lab.mastered_by(victim)), time.monotonic()
    with bench.traffic() as traffic:
        victim.pause()
        takeover = stop.wait()
        time.sleep(max(0.0, begin + lab.plan.seconds - time.monotonic()))
        stale = {address for address, posted in list(bench.roaming.posted.items()) if posted < begin}
        woken = time.monotonic()
        victim.resume()
        wait_for("it steps back", lambda: victim.events("mastership-lost"))
        lab.wait_for_spread()
        lost = traffic.lost()
    # A copy: the threads that watch and post go on.
    returned = sum(at > woken and address in stale for (_, address), at in list(bench.watch.arrived.items()))
    closed = bench.closed_since(begin)
    name = f"master stopped for {lab.plan.seconds:.0f} s"
    return [
        Figure(f"{name}: gates closed", str(closed), goal="0", met=closed == 0),
        Figure(f"{name}: packets lost", f"{lost} of {traffic.sent}", goal="0", met=lost == 0),
        Figure(f"{name}: until its last router has a master in sync", f"{takeover:.2f} s"),
        Figure(f"{name}: its flows that took effect when it woke", str(returned), goal="0", met=returned == 0),
    ]


class _Takeover:
    """What follows when the master of some routers goes away now."""

    def __init__(self, bench: Bench, routers: list[int]) -> None:
        self._routers = set(routers)
        self._masters = NewMasters(bench.lab.members)
        self._watch = bench.watch
        self._begin = time.monotonic()
        # After how many seconds the last router's flows had been read, once all is over. Its gates are renewed when the
        # bridge's next renewal makes them last longer, so up to that much later.
        self.read = math.inf

    def wait(self) -> float:
        """Wait until others have put all of the routers right, and return after how many seconds the last was.

        That is when they renew gates: the flows have been read, and nothing stale is left.
        """
        try:
            wait_for("every router has a master in sync", lambda: self._renewed() == self._routers, TAKEN_OVER_WITHIN)
            self.read = max(self._masters.synced()[dpid] for dpid in self._routers) - self._begin
            return max(self._watch.renewed[dpid] for dpid in self._routers) - self._begin
        finally:
            self._masters.end()

    def _renewed(self) -> set[int]:
        synced, renewed = self._masters.synced(), self._watch.renewed
        return {dpid for dpid in self._routers if renewed.get(dpid, 0.0) > synced.get(dpid, math.inf)}


def _times_of(cpu: list[dict[str, float]]) -> str:
    """Return the mean processor time of each process."""
    names = sorted({name for each in cpu for name in each})
    means = {name: [each[name] for each in cpu if name in each] for name in names}
    return ", ".join(f"{name} {sum(each) / len(each):.1f} s" for name, each in means.items())


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    return " ".join(f"p{percent} {1000 * percentile(seconds, percent):.0f} ms" for percent in (50, 99))
