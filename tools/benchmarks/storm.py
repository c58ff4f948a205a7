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
    checked: float


def measure(lab: Lab) -> list[Figure]:
    """Measure `storm`: the time from the move of a tenth of all bindings until the last of them is active."""
    storms = [_take(lab, turn) for turn in range(lab.plan.repetitions)]
    seconds = [storm.seconds for storm in storms]
    references = [storm.reference for storm in storms]
    bare, checked = [storm.bare for storm in storms], [storm.checked for storm in storms]
    ratio = paired_ratio(seconds, references)
    figure = Figure(
        "storm",
        f"{median(seconds):.2f} s ({ratio:.2f} times)",
        f"ovs-ofctl --bundle {median(references):.2f} s; bare Ryu {median(bare):.2f} s"
        f" ({paired_ratio(bare, references):.2f} times), checking {median(checked):.2f} s"
        f" ({paired_ratio(checked, references):.2f} times)",
        f"≤ {GOAL:g} s, ≤ {RATIO_GOAL:g} times",
        median(seconds) <= GOAL and ratio <= RATIO_GOAL,
        shares([storm.cpu for storm in storms], seconds),
        {"seconds": seconds, "ovs_ofctl": references, "bare_ryu": bare, "checking": checked},
    )
    return lab.explain([figure], "storm", lambda profiling: _move(lab, _prepare(lab, lab.plan.repetitions), profiling))


@dataclass(frozen=True, slots=True)
class Moves:
    """Hold a storm to come: the bindings before it, as one report, and the batches that report it.

    last: the binding of the mobile node that moves last.
    """

    former: bytes
    batches: list[bytes]
    last: dict[str, object]


def _take(lab: Lab, turn: int) -> Storm:
    moves = _prepare(lab, turn)
    before = switch.dump(lab.ovs, bridge(ROUTER))
    seconds, cpu = _move(lab, moves, nullcontext)
    changes = list(_changes(before, switch.dump(lab.ovs, bridge(ROUTER))))
    return Storm(seconds, cpu, _reference(lab, before, changes), *_bare(lab, moves))


def _prepare(lab: Lab, turn: int) -> Moves:
    """Move mobile nodes without reporting it yet."""
    _, population = lab.holding(lab.plan.bindings)
    nodes = spread(len(population), max(1, len(population) // SHARE), turn)
    now = time.monotonic()
    former = population.report(now)
    population.move(nodes)
    batches = [population.report(now, nodes[start : start + BATCH]) for start in range(0, len(nodes), BATCH)]
    return Moves(former, batches, population.binding(nodes[-1], now))


def _move(lab: Lab, moves: Moves, watched: Profiling) -> tuple[float, dict[str, float]]:
    """Report a storm to hoaflow; return the seconds until the last binding is active, and processor time."""
    hoaflow, population = lab.holding(lab.plan.bindings)
    lab.settle()
    with watched():
        clock = Stopwatch(hoaflow.pids)
        for batch in moves.batches:
            answer = hoaflow.rest.ask("POST", "/v1/bindings", batch)
            if any(result["status"] != 200 for result in answer["results"]):
                raise Unexpected(f"a handover was refused: {answer['results'][:3]}")
        hoaflow.activate(moves.last)
        seconds, cpu = clock.elapsed(), clock.cpu()
    hoaflow.wait_for_flows(population)
    return seconds, cpu


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


def _bare(lab: Lab, moves: Moves) -> list[float]:
    """Return the seconds that a Ryu app without hoaflow takes for the same storm, and one that checks bindings."""
    seconds = []
    for path in (BareRest.PREPARED, BareRest.CHECKED):
        with BareRest(lab.ovs, lab.directory) as ryu:
            ryu.report([moves.former], path)
            lab.settle()
            seconds.append(ryu.report(moves.batches, path))
        lab.reference.clear()
        lab.settle()
    return seconds
