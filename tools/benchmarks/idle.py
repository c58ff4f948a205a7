# SPDX-License-Identifier: Apache-2.0
"""Measure the controller's processor time while nobody moves: bindings are refreshed, the lease is renewed."""

import time

from tools.benchmarks.figures import Figure
from tools.benchmarks.lab import Lab
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.rest import Unexpected

GOAL = 20.0  # percent of one core
# A lifetime is two periods: half is left when a refresh comes, so the flows' timeouts have to be set anew with each.
LIFETIME = 2
BATCH = 1000  # bindings in one POST, as ha-bridge has it


def measure(lab: Lab) -> list[Figure]:
    """Measure `cpu_idle_percent` over one period, in which each binding is refreshed once.

    Refreshes come as ha-bridge sends them: in batches, spread over the period, and in the middle of it the snapshot
    that it sends every minute.
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
    lab.end()  # lifetimes end soon
    percent = {name: 100 * seconds / elapsed for name, seconds in cpu.items()}
    return [
        Figure(
            "cpu_idle_percent",
            f"{percent['controller']:.1f} % of one core",
            "",
            f"≤ {GOAL:g} %",
            percent["controller"] <= GOAL,
            f"over {elapsed:.0f} s; ovs-vswitchd {percent['ovs-vswitchd']:.1f} %",
            {"seconds": elapsed, "cpu_seconds": cpu},
        )
    ]
