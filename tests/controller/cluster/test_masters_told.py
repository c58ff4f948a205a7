# SPDX-License-Identifier: Apache-2.0
"""A member tells of other masters, also of switches that are not connected to it."""

from controller.cluster.commands import MasteredBy
from controller.cluster.mastership import Mastership
from controller.cluster.records import MemberRecord, Records, RouterRecord
from controller.cluster.view import Member

MEMBERS = {
    name: MemberRecord(Member(name, None, 0.0, "0"), lease, frozenset({1}), frozenset())
    for lease, name in enumerate("ab", start=1)
}


def mastered_by(name: str | None) -> Records:
    """Return records in which a router has a master, under the lease that this has now."""
    lease = 0 if name is None else MEMBERS[name].lease
    return Records(MEMBERS, {1: RouterRecord(name, lease, generation=1)})


def test_a_member_without_the_switch_knows_who_is_its_master_now() -> None:
    mastership = Mastership("a")
    mastership.observe(mastered_by("b"))
    assert mastership.decide(0.0) == [MasteredBy(1, "b")]
    mastership.observe(mastered_by(None))
    assert mastership.decide(1.0) == [MasteredBy(1, None)]
    assert mastership.decide(2.0) == []


def test_a_member_that_returns_is_not_told_that_its_former_self_is_master() -> None:
    mastership = Mastership("a")
    mastership.lease_renewed(9, 0.0, 3.0)
    mastership.observe(mastered_by("a"))
    assert mastership.decide(0.0) == []
