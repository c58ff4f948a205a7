# SPDX-License-Identifier: Apache-2.0
"""Whether a member of a cluster is ready while masters change."""

import pytest

from controller.core.readiness import readiness
from controller.core.sessions import Session
from tests.support.mastership_core import Core, read

PATIENCE = 5.0  # seconds
OVERTAKEN = 2.0  # moment
AWAY = "its switch is not connected to this controller, but b is its master"


@pytest.fixture
def core() -> Core:
    """Provide a member that knows of one router."""
    return Core([1], {}, 0.0)


@pytest.fixture
def session(core: Core) -> Session:
    """Provide the session of its switch, whose master the member is."""
    session = core.open(1, 0.0)
    session.take_over(5, False, 0.0)
    read(session, [], 0.0)
    while core.router(1).flows.dirty:
        for urgent in (True, False):
            if (batch := session.next_batch(urgent, 0.0, 100)) is not None:
                session.confirm(batch, 0.0, 0.0)
    return session


def missing(core: Core, now: float) -> list[str]:
    """Return what the member lacks."""
    return [each.reason.text for each in readiness(core.offload, {}, PATIENCE, now).missing]


def overtake(core: Core, session: Session) -> None:
    """Have another member become master, whereupon the connection ends."""
    core.offload.connections.mastered_by(1, "b")
    session.leave("overtaken", OVERTAKEN)
    session.end(OVERTAKEN)


def test_a_former_master_is_ready_until_its_switch_should_have_come_back(core: Core, session: Session) -> None:
    assert missing(core, OVERTAKEN) == []
    overtake(core, session)
    assert missing(core, OVERTAKEN + PATIENCE) == []
    assert missing(core, OVERTAKEN + PATIENCE + 0.1) == [AWAY, "no switch is connected"]


def test_a_switch_that_goes_after_it_has_come_back_is_missed_at_once(core: Core, session: Session) -> None:
    overtake(core, session)
    returned = core.open(1, OVERTAKEN + 1.0)
    assert missing(core, OVERTAKEN + 1.0) == []
    returned.end(OVERTAKEN + 2.0)
    assert missing(core, OVERTAKEN + 2.0) == [AWAY, "no switch is connected"]


def test_a_member_that_starts_is_not_ready_before_its_switches_have_come(core: Core) -> None:
    core.offload.connections.mastered_by(1, "b")
    assert missing(core, 0.0) == [AWAY, "no switch is connected"]
