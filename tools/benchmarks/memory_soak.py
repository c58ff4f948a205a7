# SPDX-License-Identifier: Apache-2.0
"""Measure whether the controller's memory grows with past handovers, snapshots and expiries."""

import random
import time
from collections.abc import Sequence

from tools.benchmarks.figures import Figure
from tools.benchmarks.hoaflow import Hoaflow
from tools.benchmarks.lab import Lab, new_population
from tools.benchmarks.processes import Stopwatch, resident_bytes
from tools.benchmarks.rest import Unexpected
from tools.benchmarks.workload import Population

ADDRESSES = 20_000  # home addresses that there are at most: about half of them are bound at a time
BATCH = 1000  # bindings in one POST, as ha-bridge has it
SNAPSHOT_EVERY = 50  # batches, or less if all are so few that the first tenth would be without one
LIFETIME = 20.0  # seconds of each binding: some end, others are taken away by a snapshot, most move before
LIFETIME_AT_REST = 3600.0  # seconds: none ends while memory is looked at
SAMPLES = 20  # of memory, evenly spread
SETTLED = 2  # samples after which memory should be flat: a tenth of all handovers
GOAL = 0.05  # of the higher one of those
SEED = 6275


def measure(lab: Lab) -> list[Figure]:
    """Measure `memory_soak`: the most resident memory in the same state later on, against a tenth of the handovers."""
    chance = random.Random(SEED)
    addresses = min(ADDRESSES, lab.plan.bindings)
    batch = min(BATCH, addresses // 2)
    hoaflow, population = lab.fresh(), new_population(addresses)
    hoaflow.add(population)
    hoaflow.report(population)
    pid = hoaflow.controller.pid
    clock = Stopwatch({"controller": pid})
    resident: list[int] = []
    batches = max(SAMPLES, lab.plan.soak // batch)
    snapshot_every = min(SNAPSHOT_EVERY, max(1, batches * SETTLED // SAMPLES // 4))
    for number in range(batches):
        nodes = sorted(chance.sample(range(addresses), batch))
        population.move(nodes)
        population.refresh(nodes, time.monotonic() + LIFETIME)
        answer = hoaflow.rest.ask("POST", "/v1/bindings", population.report(time.monotonic(), nodes))
        if any(result["status"] not in (200, 201) for result in answer["results"]):
            raise Unexpected(f"a handover was refused: {answer['results'][:3]}")
        if number % snapshot_every == snapshot_every - 1:
            kept = sorted(chance.sample(range(addresses), addresses // 2))
            population.refresh(kept, time.monotonic() + LIFETIME)
            hoaflow.report(population, kept)
        if (number + 1) * SAMPLES // batches > len(resident):
            _bind_all(hoaflow, population)
            resident.append(resident_bytes(pid))
    cpu = clock.cpu()["controller"]
    lab.end()
    base, growth = max(resident[:SETTLED]), growth_of(resident)
    return [
        Figure(
            "memory_soak",
            f"{100 * growth:+.1f} % after {batches * batch} handovers",
            f"after a tenth of them {base / 2**20:.0f} MiB",
            f"≤ +{100 * GOAL:g} %",
            growth <= GOAL,
            f"at the end {resident[-1] / 2**20:.0f} MiB; {1e6 * cpu / batches / batch:.0f} µs of processor time each",
            {"resident": resident, "growth": growth},
        )
    ]


def growth_of(samples: Sequence[float]) -> float:
    """Return by what part the highest sample after the first SETTLED is above the highest of these."""
    return max(samples[SETTLED:]) / max(samples[:SETTLED]) - 1


def _bind_all(hoaflow: Hoaflow, population: Population) -> None:
    """Bring controller and switch to the state in which memory is compared: all are bound, all flows confirmed.

    Between batches the switch may be behind by any number of changes, which would be counted as growth.
    """
    population.refresh(range(len(population)), time.monotonic() + LIFETIME_AT_REST)
    hoaflow.apply(population)
