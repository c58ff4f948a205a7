# SPDX-License-Identifier: Apache-2.0
"""Where etcd was restored from a backup, two members may be granted the same generation of a router."""

from controller.cluster.commands import Elect, TakeRole
from controller.cluster.mastership import Mastership
from controller.cluster.records import MemberRecord, Records, RouterRecord
from controller.cluster.view import Member

MEMBERS = {"c3": MemberRecord(Member("c3", None, 0.0, "0"), 9, frozenset({1}), frozenset())}


def granted(generation: int) -> Records:
    """Return records that grant the router to `c3`."""
    return Records(MEMBERS, {1: RouterRecord("c3", 9, generation, generation)})


def test_a_generation_that_another_has_taken_is_elected_above() -> None:
    mastership = Mastership("c3")
    mastership.lease_renewed(9, 0.0, 3.0)
    mastership.observe(granted(501))
    mastership.switch_connected(1, 500)
    assert mastership.decide(0.0) == [TakeRole(1, 501)]
    mastership.role_refused(1, 501)
    (elect,) = mastership.decide(0.1)
    assert isinstance(elect, Elect)
    assert (elect.member, elect.generation) == ("c3", 502)
    mastership.observe(granted(502))
    assert mastership.decide(0.2) == [TakeRole(1, 502)]


def test_the_same_member_takes_its_generation_again() -> None:
    mastership = Mastership("c3")
    mastership.lease_renewed(9, 0.0, 3.0)
    mastership.observe(granted(501))
    mastership.switch_connected(1, 501)
    assert mastership.decide(0.0) == [TakeRole(1, 501)]
