# SPDX-License-Identifier: Apache-2.0
"""Measure one POST per binding, one after the other, against one POST per flow to Ryu's `ofctl_rest`."""

import re
import time
from functools import partial

from tools.benchmarks import switch
from tools.benchmarks.baselines import OfctlRest
from tools.benchmarks.figures import Figure, median, paired_ratio, shares
from tools.benchmarks.generator import Load
from tools.benchmarks.hoaflow import Hoaflow, bridge
from tools.benchmarks.lab import ROUTER, Lab, Profiling, new_population, posts
from tools.benchmarks.ports import REFERENCE_REST
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.rest import Unexpected, prepared
from tools.benchmarks.workload import FLOWS_PER_BINDING, Population

GOAL = 3.0  # times ofctl_rest
_DOWNLINK_OR_UPLINK = re.compile(r"cookie=\w+,table=[12],.*priority=100,")


def measure(lab: Lab) -> list[Figure]:
    """Measure `single_rate_ratio`: flows a second until the last one is in the switch, starting with none.

    That is the same work: what takes hoaflow one POST takes `ofctl_rest` as many as a binding has flows.
    """
    count = lab.plan.singles
    rates: list[float] = []
    reference_rates: list[float] = []
    null_rates: list[float] = []
    elapsed: list[float] = []
    cpu: list[dict[str, float]] = []
    for _ in range(lab.plan.repetitions):
        hoaflow, population = _ready(lab)
        load = posts(population, list(range(count)), None)
        clock = Stopwatch(hoaflow.pids)
        result = lab.generate(load)
        if set(result.statuses) != {201}:
            raise Unexpected(f"expected answers 201, got {set(result.statuses)}")
        hoaflow.wait_for_flows(population)
        elapsed.append(time.monotonic() - result.started)
        rates.append(FLOWS_PER_BINDING * count / elapsed[-1])
        cpu.append(clock.cpu() | {"generator": round(result.cpu, 3)})
        null_rates.append(count / lab.null_result(load.requests, None).elapsed)
        flows = switch.dump(lab.ovs, bridge(ROUTER)).flows
        lab.end()
        reference_rates.append(_ofctl_rest(lab, [flow for flow in flows if _DOWNLINK_OR_UPLINK.match(flow)][:count]))
    ratio = paired_ratio(rates, reference_rates)
    figures = [
        Figure(
            "single_rate_ratio",
            f"{ratio:.2f} ({median(rates) / FLOWS_PER_BINDING:.0f} POST/s, {FLOWS_PER_BINDING} flows each)",
            f"ofctl_rest {median(reference_rates):.0f} POST/s, 1 flow each",
            f"≥ {GOAL:g}",
            ratio >= GOAL,
            f"{shares(cpu, elapsed)}; the generator alone could send {median(null_rates):.0f}/s",
            {"hoaflow_flows": rates, "ofctl_rest_flows": reference_rates, "null_server_requests": null_rates},
        )
    ]
    return lab.explain(figures, "single", partial(_again, lab))


def _ready(lab: Lab) -> tuple[Hoaflow, Population]:
    """Return a controller whose home agent has reported an empty binding cache."""
    hoaflow, population = lab.fresh(), new_population(lab.plan.singles)
    hoaflow.add(population)
    hoaflow.clear(population)
    return hoaflow, population


def _again(lab: Lab, profiling: Profiling) -> None:
    hoaflow, population = _ready(lab)
    with profiling():
        lab.generate(posts(population, list(range(len(population))), None))
        hoaflow.wait_for_flows(population)


def _ofctl_rest(lab: Lab, flows: list[str]) -> float:
    """Return flows a second until the last one is in the switch, with one request for each flow."""
    lab.reference.clear()
    with OfctlRest(lab.ovs, lab.directory) as ryu, lab.reference.counter() as counter:
        requests = [prepared("POST", ryu.PATH, ryu.body(flow)) for flow in flows]
        result = lab.generate(Load(REFERENCE_REST, requests))
        if set(result.statuses) != {200}:
            raise Unexpected(f"expected answers 200 from ofctl_rest, got {set(result.statuses)}")
        switch.wait_for_flows([counter], len(flows), switch.TIMEOUT)
        return len(flows) / (time.monotonic() - result.started)
