# SPDX-License-Identifier: Apache-2.0
"""Measure a storm: many mobile nodes move at once, and ha-bridge reports them in batches."""

import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

from tools.benchmarks import switch
from tools.benchmarks.baselines import BareRest
from tools.benchmarks.figures import Figure, median, paired_ratio, shares
from tools.benchmarks.hoaflow import bridge
from tools.benchmarks.lab import ROUTER, Lab, Profiling
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.rest import Unexpected
from tools.benchmarks.workload import spread

SHARE = 10  # of all bindings one in so many moves
BATCH = 1000  # bindings in one POST, as ha-bridge has it
GOAL = 0.6  # seconds
RATIO_GOAL = 1.5  # times ovs-ofctl
_MATCH = re.compile(r"(table=\d+),.*?(priority=.*) actions=")


@dataclass(frozen=True, slots=True)
class Storm:
    """Record one repetition: seconds until the last was active, processor time, and the baselines' seconds."""

    seconds: float
    cpu: dict[str, float]
    reference: float
    bare: float


def measure(lab: Lab) -> list[Figure]:
    """Measure `storm`: the time from the move of a tenth of all bindings until the last of them is active."""
    storms = [_take(lab, turn, nullcontext) for turn in range(lab.plan.repetitions)]
    seconds = [storm.seconds for storm in storms]
    references = [storm.reference for storm in storms]
    bare = [storm.bare for storm in storms]
    ratio = paired_ratio(seconds, references)
    figure = Figure(
        "storm",
        f"{median(seconds):.2f} s ({ratio:.2f} times)",
        f"ovs-ofctl --bundle {median(references):.2f} s; bare Ryu {median(bare):.2f} s"
        f" ({paired_ratio(bare, references):.2f} times)",
        f"≤ {GOAL:g} s, ≤ {RATIO_GOAL:g} times",
        median(seconds) <= GOAL and ratio <= RATIO_GOAL,
        shares([storm.cpu for storm in storms], seconds),
        {"seconds": seconds, "ovs_ofctl": references, "bare_ryu": bare},
    )
    return lab.explain([figure], "storm", lambda profiling: _take(lab, lab.plan.repetitions, profiling))


def _take(lab: Lab, turn: int, watched: Profiling) -> Storm:
    hoaflow, population = lab.holding(lab.plan.bindings)
    nodes = spread(len(population), max(1, len(population) // SHARE), turn)
    before = switch.dump(lab.ovs, bridge(ROUTER))
    now = time.monotonic()
    former = population.report(now)
    population.move(nodes)
    bodies = [population.report(now, nodes[start : start + BATCH]) for start in range(0, len(nodes), BATCH)]
    lab.settle()
    with watched():
        clock = Stopwatch(hoaflow.pids)
        for body in bodies:
            answer = hoaflow.rest.ask("POST", "/v1/bindings", body)
            if any(result["status"] != 200 for result in answer["results"]):
                raise Unexpected(f"a handover was refused: {answer['results'][:3]}")
        hoaflow.activate(population.binding(nodes[-1], now))
        seconds, cpu = clock.elapsed(), clock.cpu()
    hoaflow.wait_for_flows(population)
    changes = list(_changes(before, switch.dump(lab.ovs, bridge(ROUTER))))
    return Storm(seconds, cpu, _reference(lab, before, changes), _bare(lab, former, bodies))


def _changes(before: switch.Dump, after: switch.Dump) -> Iterator[str]:
    """Yield the flow changes of the same storm as `ovs-ofctl` takes them, without gates: additions, then deletions."""
    yield from (f"add {flow}" for flow in after.flows if flow not in before.flows and ",table=0," not in flow)
    present = set(map(_key, after.flows))
    gone = (_key(flow) for flow in before.flows if ",table=0," not in flow)
    yield from (f"delete_strict {key}" for key in gone if key not in present)


def _key(flow: str) -> str:
    found = _MATCH.search(flow)
    if not found:
        raise ValueError(f"expected a flow, got {flow}")
    return f"{found[1]},{found[2]}"


def _reference(lab: Lab, before: switch.Dump, changes: list[str]) -> float:
    """Return the seconds that `ovs-ofctl` takes for the same changes of the same flows."""
    reference = lab.reference
    before.save(reference.flows)
    reference.fill()
    lab.settle()
    reference.flows.write_text("\n".join(changes) + "\n")
    seconds = reference.fill()
    reference.clear()
    lab.settle()
    return seconds


def _bare(lab: Lab, former: bytes, bodies: list[bytes]) -> float:
    """Return the seconds that a Ryu app without hoaflow takes for the same storm, given the bindings before it."""
    with BareRest(lab.ovs, lab.directory) as ryu:
        ryu.report([former])
        lab.settle()
        seconds = ryu.report(bodies)
    lab.reference.clear()
    lab.settle()
    return seconds
