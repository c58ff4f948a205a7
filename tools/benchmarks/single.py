# SPDX-License-Identifier: Apache-2.0
"""Measure one POST per binding, one after the other, against one POST per flow to Ryu's `ofctl_rest`."""

import re
import time
from dataclasses import asdict, dataclass
from functools import partial

from tools.benchmarks import switch
from tools.benchmarks.baselines import BareRest, Baseline, OfctlRest
from tools.benchmarks.figures import Figure, median, paired_ratio
from tools.benchmarks.generator import Load, Result
from tools.benchmarks.hoaflow import Hoaflow, bridge
from tools.benchmarks.lab import ROUTER, Lab, Profiling, new_population, posts
from tools.benchmarks.ports import REFERENCE_REST
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.rest import Unexpected, prepared
from tools.benchmarks.workload import FLOWS_PER_BINDING, Population

GOAL = 3.0  # times ofctl_rest
_DOWNLINK_OR_UPLINK = re.compile(r"cookie=\w+,table=[12],.*priority=100,")


@dataclass(frozen=True, slots=True)
class Posted:
    """Record one run of POSTs: how many, seconds until the last flow was in the switch, and processor time."""

    count: int
    elapsed: float
    cpu: float  # seconds, of the process that was asked

    @property
    def rate(self) -> float:
        """Return POSTs a second."""
        return self.count / self.elapsed


def measure(lab: Lab) -> list[Figure]:
    """Measure `single_rate_ratio`: flows a second until the last one is in the switch, starting with none.

    That is the same work: what takes hoaflow one POST takes `ofctl_rest` as many as a binding has flows. Measured as
    well is what a POST takes without hoaflow: a Ryu app that sends the same flows in a bundle and keeps nothing, and
    one that only answers.
    """
    turns = [_turn(lab) for _ in range(lab.plan.repetitions)]
    hoaflow, bare, ofctl, null, generator = ([turn[index] for turn in turns] for index in range(5))
    rates, references = [each.rate for each in hoaflow], [each.rate for each in ofctl]
    ratio = FLOWS_PER_BINDING * paired_ratio(rates, references)
    limit = FLOWS_PER_BINDING * paired_ratio([each.rate for each in bare], references)
    figures = [
        Figure(
            "single_rate_ratio",
            f"{ratio:.2f} ({median(rates):.0f} POST/s, {FLOWS_PER_BINDING} flows each)",
            f"ofctl_rest {median(references):.0f} POST/s, 1 flow each; the same flows from bare Ryu {limit:.2f}",
            f"≥ {GOAL:g}",
            ratio >= GOAL,
            "processor time of a POST: "
            f"hoaflow {_cost(hoaflow)}, bare Ryu with the same flows {_cost(bare)}, ofctl_rest {_cost(ofctl)}, "
            f"eventlet's server that only answers {_cost(null)}; the generator alone {_cost(generator)}",
            {
                "hoaflow": [asdict(each) for each in hoaflow],
                "bare_ryu": [asdict(each) for each in bare],
                "ofctl_rest": [asdict(each) for each in ofctl],
                "null_server": [asdict(each) for each in null],
                "generator": [asdict(each) for each in generator],
            },
        )
    ]
    return lab.explain(figures, "single", partial(_again, lab))


def _cost(posted: list[Posted]) -> str:
    return f"{1e6 * median([each.cpu / each.count for each in posted]):.0f} µs"


def _turn(lab: Lab) -> tuple[Posted, Posted, Posted, Posted, Posted]:
    """Return what hoaflow, bare Ryu, `ofctl_rest`, an app that only answers, and the generator alone take."""
    hoaflow, population = _ready(lab)
    load = posts(population, list(range(lab.plan.singles)), None)
    clock = Stopwatch({"controller": hoaflow.controller.pid})
    result = _generate(lab, load, 201)
    hoaflow.wait_for_flows(population)
    posted = Posted(len(population), time.monotonic() - result.started, clock.cpu()["controller"])
    alone = lab.null_result(load.requests, None)
    flows = switch.dump(lab.ovs, bridge(ROUTER)).flows
    lab.end()
    bare, null = _bare(lab, population)
    wanted = [flow for flow in flows if _DOWNLINK_OR_UPLINK.match(flow)][: len(population)]
    ofctl = _ofctl_rest(lab, wanted)
    return posted, bare, ofctl, null, Posted(len(population), alone.elapsed, alone.cpu)


def _generate(lab: Lab, load: Load, expected: int) -> Result:
    result = lab.generate(load)
    if set(result.statuses) != {expected}:
        raise Unexpected(f"expected answers {expected}, got {set(result.statuses)}")
    return result


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


def _bare(lab: Lab, population: Population) -> tuple[Posted, Posted]:
    """Return what the same POSTs take a Ryu app with the same flows, and one that only answers."""
    now = time.monotonic()
    bindings = [population.binding(node, now) for node in range(len(population))]
    lab.reference.clear()
    with BareRest(lab.ovs, lab.directory) as ryu:
        flows = FLOWS_PER_BINDING * len(bindings)
        bare = _posted(lab, ryu, [prepared("POST", ryu.PATH, binding) for binding in bindings], flows)
        return bare, _posted(lab, ryu, [prepared("POST", ryu.NULL, binding) for binding in bindings], flows)


def _ofctl_rest(lab: Lab, flows: list[str]) -> Posted:
    """Return what one POST for each of these flows takes `ofctl_rest`."""
    lab.reference.clear()
    with OfctlRest(lab.ovs, lab.directory) as ryu:
        return _posted(lab, ryu, [prepared("POST", ryu.PATH, ryu.body(flow)) for flow in flows], len(flows))


def _posted(lab: Lab, ryu: Baseline, requests: list[str], flows: int) -> Posted:
    """Send requests one after the other, and wait until the reference bridge has so many flows."""
    with lab.reference.counter() as counter:
        clock = Stopwatch({"ryu": ryu.pid})
        result = _generate(lab, Load(REFERENCE_REST, requests), 200)
        switch.wait_for_flows([counter], flows, switch.TIMEOUT)
        return Posted(len(requests), time.monotonic() - result.started, clock.cpu()["ryu"])
