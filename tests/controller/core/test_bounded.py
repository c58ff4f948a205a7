# SPDX-License-Identifier: Apache-2.0
"""What the core keeps is bounded by what exists, not by what has happened: counted in entries, wherever they lie."""

from itertools import count

import pytest

from controller.core.bindings import Binding
from controller.core.flows import FlowKey
from controller.core.switch_work import SwitchWork
from controller.core.urgency import Urgency
from hoaflow import deadlines
from hoaflow.addresses import Prefix
from tests.support.core_run import HOME_ADDRESSES, Run
from tests.support.entries import entries

STEPS = 6000
# More than the flows of all home addresses and home prefixes there, far less than the care-of addresses that have been.
MOST = 100


class Roaming(Run):
    """A run in which no care-of address comes twice, and the controller and its connection live on."""

    STEPS = (
        *((step, weight) for step, weight in Run.STEPS if step not in (Run.restart, Run.die, Run.reconnect)),
        (Run.post, 10),
    )

    def __init__(self, seed: int, flow_backend: bool) -> None:
        self.links = count(1)
        self.reported = 0
        super().__init__(seed, flow_backend)

    def binding(self, home_address: Prefix) -> Binding:
        self.reported += 1
        bound = super().binding(home_address)
        care_of_address = bytes.fromhex("20010db8ffff0000") + next(self.links).to_bytes(8, "big")
        return Binding(home_address, care_of_address, bound.home_agent, bound.lifetime, bound.expires_at)

    def work(self) -> None:
        """As a switch does, also say of flows that the controller has deleted that they are gone, before the answer."""
        before = set(self.switch.flows)
        super().work()
        vanished: set[FlowKey] = before - self.switch.flows.keys() - self.switch.vanished
        if vanished:
            answer = self.switch.says.pop()
            self.switch.says += (*((key, False) for key in sorted(vanished)), answer)


@pytest.mark.parametrize("flow_backend", [True, False], ids=["flow", "route"])
def test_nothing_is_kept_of_what_is_gone(flow_backend: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "FEW", 0)  # outdated entries that are not worth tidying up
    run = Roaming(1, flow_backend)
    for _ in range(STEPS):
        run.step()
        run.offload.take_events()
        run.offload.activation_events.take_times()
    run.switch.room = {}
    run.settle()

    assert run.reported > 10 * MOST, "mobile nodes moved often enough for something to be seen"
    found = entries(run.offload)
    assert any(path.endswith("installed._standing") and held for path, held in found.items()), "all of the core is seen"
    assert not {path: held for path, held in found.items() if held > MOST}, f"of {run.reported} care-of addresses"


def test_a_subject_that_becomes_urgent_while_it_waits_leaves_nothing_in_the_queue_it_was_in() -> None:
    work = SwitchWork()
    for _ in range(MOST):
        work.queue(HOME_ADDRESSES[0], urgency=Urgency.ROUTINE)
        work.queue(HOME_ADDRESSES[0])
        work.urgent.pop()
        work.pending.done(HOME_ADDRESSES[0])
    assert sum(entries(work).values()) < MOST / 10
