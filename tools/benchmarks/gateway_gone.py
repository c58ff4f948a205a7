# SPDX-License-Identifier: Apache-2.0
"""Measure one message that ends, or moves, all bindings behind a care-of address: a MAG has died, or has restarted."""

import json
import time
from dataclasses import asdict
from functools import partial

from tools.benchmarks.figures import Figure, median, shares
from tools.benchmarks.hoaflow import Bulk, Hoaflow
from tools.benchmarks.lab import Lab, Profiling, new_population
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.rest import Unexpected
from tools.benchmarks.workload import SharedPopulation

NODES = 10_000  # behind the MAG
GOAL = 1.0  # seconds
OTHER_GATEWAY = "2001:db8:f99:ffff::1"  # to which they move


def measure(lab: Lab) -> list[Figure]:
    """Measure `gateway_gone`, from the message until the switch has confirmed it for all of them."""
    population = SharedPopulation.of(new_population(min(NODES, lab.plan.bindings)), gateways=1)
    hoaflow = lab.fresh()
    hoaflow.add(population)
    moved, ended = [], []
    for _ in range(lab.plan.repetitions):
        hoaflow.apply(population)
        lab.settle()
        moved.append(_move(hoaflow, population))
        lab.settle()
        ended.append(_end(hoaflow, population))
    to_move, to_end = (median([each.confirmed for each in measured]) for measured in (moved, ended))
    figures = [
        Figure(
            "gateway_gone",
            f"{to_end:.2f} s, moved elsewhere {to_move:.2f} s",
            "",
            f"≤ {GOAL:g} s",
            max(to_move, to_end) <= GOAL,
            f"{len(population)} bindings; to end them, {_shares(ended)}; to move them, {_shares(moved)}",
            {name: [asdict(each) for each in measured] for name, measured in (("ended", ended), ("moved", moved))},
        )
    ]
    figures = lab.explain(figures, "gateway-gone", partial(_again, lab, population))
    lab.end()
    return figures


def _shares(measured: list[Bulk]) -> str:
    return shares([each.cpu for each in measured], [each.confirmed for each in measured])


def _move(hoaflow: Hoaflow, population: SharedPopulation) -> Bulk:
    """Move all to the other gateway by one message, and wait until the last is active there."""
    last = population.binding(len(population) - 1, time.monotonic())
    clock = Stopwatch(hoaflow.pids)
    _tell(hoaflow, population, str(last["care_of_address"]), {"new_care_of_address": OTHER_GATEWAY})
    answered = clock.elapsed()
    hoaflow.activate(last | {"care_of_address": OTHER_GATEWAY})
    return Bulk(clock.started, answered, clock.elapsed(), clock.cpu())


def _end(hoaflow: Hoaflow, population: SharedPopulation) -> Bulk:
    """End all bindings by one message, and wait until the switch has none of their flows."""
    clock = Stopwatch(hoaflow.pids)
    _tell(hoaflow, population, OTHER_GATEWAY, {"lifetime": 0})
    answered = clock.elapsed()
    hoaflow.wait_for_flows(population, 0)
    return Bulk(clock.started, answered, clock.elapsed(), clock.cpu())


def _tell(hoaflow: Hoaflow, population: SharedPopulation, care_of_address: str, change: dict[str, object]) -> None:
    body = json.dumps({"protocol": "mipv6", "care_of_address": care_of_address} | change).encode()
    answer = hoaflow.rest.ask("POST", f"/v1/home-agents/{population.home_agent}/bindings", body)
    if answer["changed"] + answer["removed"] != len(population):
        raise Unexpected(f"expected {len(population)} bindings to change, got {answer}")


def _again(lab: Lab, population: SharedPopulation, profiling: Profiling) -> None:
    hoaflow = lab.fresh()
    hoaflow.add(population)
    hoaflow.apply(population)
    lab.settle()
    with profiling():
        _move(hoaflow, population)
        _end(hoaflow, population)
