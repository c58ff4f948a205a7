# SPDX-License-Identifier: Apache-2.0
"""A master whose lease etcd has no more goes on until the switch has another, unless it has stood still itself."""

import pytest

from controller.cluster.commands import Elect, GiveUp, MasteredBy, TakeRole
from controller.cluster.mastership import UNANSWERED, Mastership
from controller.cluster.records import MemberRecord, Records, RouterRecord
from controller.cluster.view import Member

LEASE = 3.0  # seconds
VACANT = RouterRecord(generation=5, counter_revision=7)
LOST = 1.5  # moment


def records(router: RouterRecord, own_lease: int = 1) -> Records:
    """Return records of two members, which both reach one router."""
    members = {
        name: MemberRecord(Member(name, None, 0.0, "0"), lease, frozenset({1}), frozenset())
        for name, lease in (("a", own_lease), ("b", 2))
    }
    return Records(members, {1: router})


@pytest.fixture
def mastership() -> Mastership:
    """Provide that of `a`, master of the router."""
    made = Mastership("a")
    made.asking(0.0)
    made.lease_renewed(1, 0.0, LEASE)
    made.observe(records(RouterRecord("a", 1, revision=7, generation=5, counter_revision=7)))
    made.switch_connected(1, 4)
    assert made.decide(0.0) == [TakeRole(1, 5)]
    made.role_taken(1, 5)
    return made


def lose_lease(mastership: Mastership, asked: float) -> None:
    """Have etcd, asked for the lease, answer that there is none."""
    mastership.asking(asked)
    mastership.lease_lost()
    mastership.observe(records(VACANT))


def test_it_goes_on_while_etcd_grants_no_other_lease(mastership: Mastership) -> None:
    lose_lease(mastership, LOST)
    assert mastership.decide(LOST) == []
    for now in (LOST, LOST + 4.0, LOST + 8.0):
        mastership.asking(now)
        assert mastership.is_certain(now)
    assert mastership.decide(LOST + 8.0) == []


def test_it_goes_on_until_the_switch_has_the_other_that_was_elected(mastership: Mastership) -> None:
    lose_lease(mastership, LOST)
    mastership.observe(records(RouterRecord("b", 2, revision=9, generation=6, counter_revision=9)))
    assert mastership.decide(LOST) == [MasteredBy(1, "b")]
    mastership.overtaken(1, LOST + 1.0)
    mastership.switch_gone(1)
    mastership.switch_connected(1, 6)
    assert mastership.decide(LOST + 2.0) == []


def test_with_another_lease_it_is_elected_anew_and_takes_the_switch_by_that(mastership: Mastership) -> None:
    lose_lease(mastership, LOST)
    mastership.lease_renewed(3, LOST, LEASE)
    mastership.observe(records(VACANT, own_lease=3))
    assert mastership.decide(LOST) == [Elect(1, "a", 3, 6, VACANT, "there was no master")]
    mastership.observe(records(RouterRecord("a", 3, revision=9, generation=6, counter_revision=9), own_lease=3))
    assert mastership.decide(LOST) == [GiveUp(1)]
    mastership.switch_gone(1)
    mastership.switch_connected(1, 5)
    assert mastership.decide(LOST) == [TakeRole(1, 6)]


def test_one_that_has_stood_still_gives_up(mastership: Mastership) -> None:
    awake = LEASE + UNANSWERED + 1.0
    lose_lease(mastership, awake)
    mastership.asking(awake)
    assert not mastership.is_certain(awake), "it writes nothing"
    assert mastership.decide(awake) == [GiveUp(1)]
