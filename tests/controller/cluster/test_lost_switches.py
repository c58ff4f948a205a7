# SPDX-License-Identifier: Apache-2.0
"""A member is master no longer of a router that no member reaches, so that all see that it has none."""

import pytest

from controller.cluster.commands import Command, Elect, Resign, TakeRole, election, resignation
from controller.cluster.mastership import SWITCH_AWAY, Mastership
from controller.cluster.records import Keys, MemberRecord, Records, RouterRecord
from controller.cluster.view import Member
from tests.support.played_etcd import PlayedEtcd

RECORD = RouterRecord("a", 1, revision=7, generation=5, counter_revision=7)


def records(*connected: str) -> Records:
    """Return records in which `a` is master, and the switch is connected to these members."""
    members = {
        name: MemberRecord(
            Member(name, None, 0.0, "0"), lease, frozenset({1} if name in connected else ()), frozenset()
        )
        for lease, name in enumerate("ab", start=1)
    }
    return Records(members, {1: RECORD})


@pytest.fixture
def mastership() -> Mastership:
    """Provide that of `a`, master of a router whose switch has just gone from it and from `b`."""
    made = Mastership("a")
    made.lease_renewed(1, 0.0, 100.0)
    made.observe(records("a"))
    made.switch_connected(1, 4)
    assert made.decide(0.0) == [TakeRole(1, 5)]
    made.role_taken(1, 5)
    made.switch_gone(1)
    made.observe(records())
    assert made.decide(0.0) == []
    return made


def told(mastership: Mastership, now: float) -> list[Command]:
    """Return what the member does then; it looks in between whenever it said that it would."""
    assert mastership.next_look() <= now
    return mastership.decide(now)


def test_it_resigns_once_the_switch_has_been_away_for_long(mastership: Mastership) -> None:
    assert told(mastership, SWITCH_AWAY) == [Resign(1, RECORD)]


def test_a_switch_that_comes_back_keeps_its_master(mastership: Mastership) -> None:
    mastership.switch_connected(1, 5)
    assert mastership.decide(SWITCH_AWAY - 1) == [TakeRole(1, 5)]
    mastership.role_taken(1, 5)
    mastership.switch_gone(1)
    assert mastership.decide(SWITCH_AWAY + 1) == []


def test_it_leaves_the_router_to_a_member_that_reaches_it(mastership: Mastership) -> None:
    mastership.observe(records("b"))
    commands = [*mastership.decide(1.0), *mastership.decide(SWITCH_AWAY + 2)]
    assert not any(isinstance(each, Resign) for each in commands)


def test_without_a_lease_that_lasts_it_asks_nothing_of_etcd(mastership: Mastership) -> None:
    assert mastership.decide(101.0) == []


def test_a_resignation_counts_for_the_record_that_it_was_made_of_alone() -> None:
    keys, etcd = Keys("hoaflow"), PlayedEtcd()
    lease = etcd.grant(3.0, 0.0)
    etcd.transact(*election(keys, Elect(1, "a", lease, 5, RouterRecord(), "there was no master"), 0.0))
    assert not etcd.transact(*resignation(keys, Resign(1, RouterRecord("a", lease, revision=1))))
    present = keys.updated(Records(), etcd.keys)[0].router(1)
    assert etcd.transact(*resignation(keys, Resign(1, present)))
    after = keys.updated(Records(), etcd.keys)[0].router(1)
    assert (after.master, after.generation) == (None, 5)
