# SPDX-License-Identifier: Apache-2.0
"""A restarted controller that has read the switch, and whose agents have not reported yet."""

from controller.core.flows import Kind, Normal
from controller.core.home_agents import Status
from controller.core.offload import Offload
from tests.support.mastership_core import (
    BACKEND,
    CARE_OF_ADDRESSES,
    GATES_LAST,
    HOME_ADDRESSES,
    HOME_AGENT,
    HOME_PREFIX,
    PORTS,
    TIMING,
    Core,
    SwitchFlows,
    read,
)
from tests.support.told_flows import tell


def send(offload: Offload, switch: SwitchFlows, now: float) -> set[tuple[Kind, bool]]:
    """Have the switch carry out all that is due; return the kinds of flows that were added (True) or deleted."""
    router, done = offload.router(1), set()
    while router.flows.dirty:
        for urgent in (True, False):
            if (batch := offload.switches.next_batch(router, urgent, now, 100)) is not None:
                switch.take(batch, offload)
                done |= {(change.flow.kind, change.add) for change in batch.changes}
                offload.switches.confirm(router, batch, now, now)
    return done


def test_guards_and_gates_stay_until_the_agent_has_said_what_it_has() -> None:
    switch, now = SwitchFlows(), 100.0
    former = Core([1], {HOME_ADDRESSES[0]: CARE_OF_ADDRESSES[0]}, now)
    session = former.open(1, now)
    read(session, [], now)
    send(former.offload, switch, now)
    former.announce({}, now)
    assert (Kind.GATE, True) in send(former.offload, switch, now) or switch.has_gates(now)

    restarted = Offload(TIMING, (Normal(),), first_revision=1000)
    reading = restarted.switches.begin_reading(1, now)
    tell(reading, switch.entries(now))
    restarted.switches.connect(1, PORTS, now)
    restarted.announce(HOME_AGENT, (HOME_PREFIX,), GATES_LAST, Status.UP, now)
    assert (Kind.GUARD, False) not in send(restarted, switch, now)
    restarted.acknowledge(1, 0, {}, {16: BACKEND}, {}, now, None)
    assert not {(Kind.GUARD, True), (Kind.GUARD, False), (Kind.GATE, False)} & send(restarted, switch, now)
    assert switch.has_gates(now)
