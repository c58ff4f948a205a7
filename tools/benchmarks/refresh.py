# SPDX-License-Identifier: Apache-2.0
"""Measure the cost of standing still: mobile nodes refresh their bindings, the bridge renews its lease."""

import time
from collections.abc import Iterator

from tools.benchmarks import switch
from tools.benchmarks.baselines import BareRest
from tools.benchmarks.figures import Figure
from tools.benchmarks.hoaflow import bridge
from tools.benchmarks.lab import ROUTER, Lab
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.rest import Unexpected
from tools.benchmarks.workload import Population

CONTROLLER_GOAL, SWITCH_GOAL = 4.0, 2.0  # percent of one core
LIFETIME = 2  # periods: half is left when a refresh comes
BATCH = 1000  # bindings in one POST, as ha-bridge has it


def measure(lab: Lab) -> list[Figure]:
    """Measure `refresh`: flows sent again and processor time over one period, in which each binding is refreshed once.

    Refreshes come as ha-bridge sends them: in batches, spread over the period, and in the middle of it the snapshot
    that it sends every minute. Gates are renewed meanwhile, and are not counted.
    """
    period = lab.plan.period
    hoaflow, population = lab.holding(lab.plan.bindings)
    batches = [range(start, min(start + BATCH, len(population))) for start in range(0, len(population), BATCH)]
    pause = period / len(batches)
    # As it is after a while of such refreshes: the ends of lifetimes are spread over a period, too.
    now = time.monotonic()
    for number, batch in enumerate(batches):
        population.refresh(batch, now + (LIFETIME - 1) * period + number * pause)
    hoaflow.apply(population)
    lab.settle()
    before = switch.dump(lab.ovs, bridge(ROUTER))
    clock = Stopwatch(hoaflow.pids)
    for number, batch in enumerate(batches):
        population.refresh(batch, time.monotonic() + LIFETIME * period)
        answer = hoaflow.rest.ask("POST", "/v1/bindings", population.report(time.monotonic(), batch))
        if any(result["status"] != 200 for result in answer["results"]):
            raise Unexpected(f"a refresh was refused: {answer['results'][:3]}")
        if number == len(batches) // 2:
            hoaflow.report(population)
        time.sleep(max(0.0, clock.started + (number + 1) * pause - time.monotonic()))
    elapsed, cpu = clock.elapsed(), clock.cpu()
    sent = switch.dump(lab.ovs, bridge(ROUTER)).changed_since(before, clock.started)
    lab.end()  # lifetimes end soon
    controller, ovs = (100 * cpu[name] / elapsed for name in ("controller", "ovs-vswitchd"))
    answering, checking = (100 * seconds / elapsed for seconds in _without(lab, population, batches))
    return [
        Figure(
            "refresh",
            f"{len(sent)} flows sent, {controller:.1f} % and {ovs:.1f} % of a core",
            f"a Ryu app that only answers these requests {answering:.1f} %, one that checks them {checking:.1f} %",
            f"0, ≤ {CONTROLLER_GOAL:g} % and ≤ {SWITCH_GOAL:g} %",
            not sent and controller <= CONTROLLER_GOAL and ovs <= SWITCH_GOAL,
            "; ".join([f"controller and switch over {elapsed:.0f} s", *(f"sent: {flow}" for flow in sent[:3])]),
            {
                "seconds": elapsed,
                "cpu_seconds": cpu,
                "flows_sent": len(sent),
                "percent": {"answering": answering, "checking": checking},
            },
        )
    ]


def _without(lab: Lab, population: Population, batches: list[range]) -> list[float]:
    """Return the processor seconds that an app without hoaflow takes for the same requests: only answered, checked."""
    seconds = []
    for path in (BareRest.NULL, BareRest.CHECKED):
        with BareRest(lab.ovs, lab.directory) as app:
            app.report([population.report(time.monotonic())], path)
            lab.settle()
            clock = Stopwatch({"app": app.pid})
            app.report(_refreshes(population, batches, lab.plan.period), path)
            seconds.append(clock.cpu()["app"])
        lab.reference.clear()
    return seconds


def _refreshes(population: Population, batches: list[range], period: float) -> Iterator[bytes]:
    """Yield the reports of a period: each batch, and a snapshot."""
    for batch in batches:
        population.refresh(batch, time.monotonic() + LIFETIME * period)
        yield population.report(time.monotonic(), batch)
    yield population.report(time.monotonic())
