# SPDX-License-Identifier: Apache-2.0
"""What must hold on a switch at every step, whatever is refused, evicted, deleted, lost or restarted, in any order.

``HOAFLOW_INVARIANTS=1000x2000`` has half as many runs of each kind, of so many steps.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from controller.core.bindings import Binding
from controller.core.flow_sets import keys_of
from controller.core.home_agents import Status
from tests.support.comparing_run import ComparingRun
from tests.support.core_run import CARE_OF_ADDRESSES, HOME_ADDRESSES, HOME_AGENT, LEASE, PREFIXES, Run
from tests.support.demand_run import DemandRun
from tests.support.numbered_run import NumberedRun
from tests.support.takeover_run import TakeoverRun

AnyRun = TypeVar("AnyRun", bound=Run)
RUNS, STEPS = map(int, os.environ.get("HOAFLOW_INVARIANTS", "60x500").split("x"))


@pytest.mark.parametrize("flow_backend", [True, False], ids=["flow", "route"])
def test_whatever_happens_the_flows_stay_safe(flow_backend: bool) -> None:
    """Every third run has IPv4 outside, where a binding may be without reverse tunnel."""
    rests = sum(run.rests for run in runs(lambda seed: Run(seed, flow_backend, ipv4_outside=seed % 3 == 0)))
    assert rests > RUNS, "it came to rest often enough for something to be seen"


@pytest.mark.parametrize("flow_backend", [True, False], ids=["flow", "route"])
def test_an_on_demand_router_has_the_flows_that_it_was_asked_for_and_they_stay_safe(flow_backend: bool) -> None:
    carried = given_up = 0
    for run in runs(lambda seed: DemandRun(seed, flow_backend)):
        carried, given_up = carried + run.carried, given_up + run.given_up
    assert carried > RUNS * STEPS / 600, "home addresses were carried often enough for something to be seen"
    assert given_up > RUNS * STEPS / 5000, "what was quiet was given up often enough for something to be seen"


@pytest.mark.parametrize("flow_backend", [True, False], ids=["flow", "route"])
def test_whatever_happens_while_flows_are_compared_they_stay_safe(
    flow_backend: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.core.first_reading.AT_ONCE", 1)
    changes = sum(run.changes for run in runs(lambda seed: ComparingRun(seed, flow_backend)))
    assert changes > RUNS * STEPS / 30, "enough happened for something to be seen"


def test_a_gate_is_renewed_only_with_all_in_the_switch_that_the_bridge_had_seen() -> None:
    renewed = sum(run.renewed for run in runs(NumberedRun))
    assert renewed > RUNS, "gates were renewed often enough for something to be seen"


def test_whoever_is_master_packets_go_only_where_their_mobile_nodes_are() -> None:
    takeovers = direct = 0
    for run in runs(TakeoverRun):
        takeovers, direct = takeovers + run.takeovers, direct + run.direct
    assert takeovers > RUNS, "controllers took over often enough for something to be seen"
    assert direct > RUNS * STEPS / 100, "packets went direct often enough for something to be seen"


def runs(start: Callable[[int], AnyRun]) -> Iterator[AnyRun]:
    """Carry runs out, and yield each; an error has its seed, and what happened last."""
    for seed in range(RUNS // 2):
        run = start(seed)
        try:
            for _ in range(STEPS):
                run.step()
            run.settle()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, step {len(run.log)}: {error}\n" + "\n".join(run.log[-30:])) from error
        yield run


@pytest.mark.parametrize(
    ("seed", "flow_backend"),
    [(1169, True), (17, False), (56, False), (73, False), (317, False), (423, False), (1392, False)],
)
def test_runs_that_went_wrong_once_go_right(seed: int, flow_backend: bool) -> None:
    run = Run(seed, flow_backend)
    for _ in range(1000):
        run.step()
    run.settle()


def test_an_on_demand_run_that_went_wrong_once_goes_right() -> None:
    run = DemandRun(466, True)
    for _ in range(1000):
        run.step()
    run.settle()


def trace(seeds: int, steps: int) -> str:
    """Return what happens in some runs, and what the switch then has, as a number."""
    seen = hashlib.sha256()
    for run in (Run(seed, flow_backend) for seed in range(seeds) for flow_backend in (True, False)):
        for _ in range(steps):
            run.step()
            seen.update(repr((run.log[-1], list(run.switch.flows))).encode())
    return seen.hexdigest()


def test_a_run_can_be_repeated_in_another_process() -> None:
    command = [sys.executable, "-c", "from tests.controller.core.test_invariants import trace; print(trace(5, 200))"]
    environments = ({**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2"))  # sets have another order in each
    one, other = (subprocess.check_output(command, env=each, timeout=120) for each in environments)
    assert one == other


@pytest.mark.parametrize("heard", ["before the refusal", "after it", "read"])
def test_what_verifies_goes_when_somebody_else_deletes_the_uplink_flow_first(heard: str) -> None:
    run = Run(0, flow_backend=True)
    run.offload.announce(HOME_AGENT, PREFIXES, LEASE, Status.UP, run.now)
    run.agent()
    held = [Binding(each, CARE_OF_ADDRESSES[0], HOME_AGENT, None, None) for each in HOME_ADDRESSES[:2]]
    with run.offload.snapshot(HOME_AGENT, run.now) as snapshot:
        snapshot.take_in(enumerate(held), run.now)
        while not snapshot.complete(run.now):
            run.offload.tick(run.now)
    run.settle()
    uplink = keys_of(held[0]).uplink
    assert uplink is not None
    assert {*keys_of(held[0]).all, *keys_of(held[1]).all} <= run.switch.flows.keys()

    # For want of room for one flow all have to go, but the switch refuses the batch with the uplink flow they share.
    run.switch.room = {"downlink": run.switch.count("downlink") - 1}
    run.switch.lose(keys_of(held[1]).downlink, evicted=True)
    run.hear()
    while not run.router.flows.is_barred(uplink):
        batch = run.router.flows.next_urgent_batch(run.now, 1)
        assert batch is not None
        if run.router.flows.is_barred(uplink):
            if heard == "before the refusal":
                run.switch.lose(uplink)
                run.hear()
            run.offload.switches.refuse(run.router, batch, {0: "busy"}, False, run.now)
        else:
            run.offload.switches.confirm(run.router, batch, run.now)
    if heard != "before the refusal":
        run.switch.lose(uplink)
    if heard == "after it":
        run.hear()
    elif heard == "read":
        run.switch.says.clear()
        run.read()

    run.settle()
    assert not {*keys_of(held[0]).all, *keys_of(held[1]).all} & run.switch.flows.keys()
