# SPDX-License-Identifier: Apache-2.0
"""Measure whether the controller's memory grows with past handovers, snapshots and expiries."""

import random
import time

from tools.benchmarks.figures import Figure, median
from tools.benchmarks.lab import Lab, new_population
from tools.benchmarks.processes import Stopwatch, resident_bytes
from tools.benchmarks.rest import Unexpected

ADDRESSES = 20_000  # home addresses that there are: about half of them are bound at a time
BATCH = 1000  # bindings in one POST, as ha-bridge has it
SNAPSHOT_EVERY = 50  # batches, or less if all are so few that the first tenth would be without one
LIFETIME = 20.0  # seconds of each binding: some end, others are taken away by a snapshot, most move before
SETTLED = 10  # after one in so many of all handovers memory should be flat
GOAL = 0.05  # of what it was then
SEED = 6275


def measure(lab: Lab) -> list[Figure]:
    """Measure `memory_soak`: the peak of resident memory at the end, against that after a tenth of the handovers."""
    chance = random.Random(SEED)
    hoaflow, population = lab.fresh(), new_population(ADDRESSES)
    hoaflow.add(population)
    hoaflow.report(population)
    pid = hoaflow.controller.pid
    clock = Stopwatch({"controller": pid})
    resident: list[int] = []
    batches = max(2 * SETTLED, lab.plan.soak // BATCH)
    begun = batches // SETTLED
    snapshot_every = min(SNAPSHOT_EVERY, max(1, begun // 4))
    for number in range(batches):
        nodes = sorted(chance.sample(range(ADDRESSES), BATCH))
        population.move(nodes)
        population.refresh(nodes, time.monotonic() + LIFETIME)
        answer = hoaflow.rest.ask("POST", "/v1/bindings", population.report(time.monotonic(), nodes))
        if any(result["status"] not in (200, 201) for result in answer["results"]):
            raise Unexpected(f"a handover was refused: {answer['results'][:3]}")
        if number % snapshot_every == snapshot_every - 1:
            kept = sorted(chance.sample(range(ADDRESSES), ADDRESSES // 2))
            population.refresh(kept, time.monotonic() + LIFETIME)
            hoaflow.report(population, kept)
        resident.append(resident_bytes(pid))
    cpu = clock.cpu()["controller"]
    lab.end()
    base = median(resident[begun // 2 : begun + 1])
    growth = max(resident[begun:]) / base - 1
    return [
        Figure(
            "memory_soak",
            f"{100 * growth:+.1f} % after {batches * BATCH} handovers",
            f"after a tenth of them {base / 2**20:.0f} MiB",
            f"≤ +{100 * GOAL:g} %",
            growth <= GOAL,
            f"at the end {resident[-1] / 2**20:.0f} MiB; {1e6 * cpu / batches / BATCH:.0f} µs of processor time each",
            {"resident": resident[:: max(1, batches // 200)], "growth": growth},
        )
    ]
