# SPDX-License-Identifier: Apache-2.0
"""Routers are placed evenly, and moved only where that is what it takes."""

from collections import Counter

import pytest

from controller.cluster.placement import candidates_of, place
from controller.cluster.records import MemberRecord, Records
from controller.cluster.view import Member

ROUTERS = range(30)
ALL = ("a", "b", "c")


def able(*members: str) -> dict[int, tuple[str, ...]]:
    return dict.fromkeys(ROUTERS, members)


def moved(before: dict[int, str], after: dict[int, str]) -> int:
    return sum(after[dpid] != master for dpid, master in before.items())


def test_routers_are_spread_evenly_and_then_stay() -> None:
    placed = place({}, able(*ALL))
    assert Counter(placed.values()) == {"a": 10, "b": 10, "c": 10}
    assert place(dict(placed), able(*ALL)) == placed


def test_the_routers_of_a_dead_member_go_to_all_others_and_no_other_moves() -> None:
    before = place({}, able(*ALL))
    after = place(dict(before), able("a", "c"))
    assert Counter(after.values()) == {"a": 15, "c": 15}
    assert moved(before, after) == 10


def test_a_member_that_returns_gets_its_share_and_no_other_moves() -> None:
    before = place({}, able("a", "c"))
    after = place(dict(before), able(*ALL))
    assert Counter(after.values()) == {"a": 10, "b": 10, "c": 10}
    assert moved(before, after) == 10


def test_a_router_stays_where_nobody_else_is_connected() -> None:
    connected = able(*ALL) | dict.fromkeys(range(15), ("a",))
    placed = place({}, connected)
    assert all(placed[dpid] == "a" for dpid in range(15))
    assert place(dict(placed), connected) == placed


@pytest.mark.parametrize(("reports_to_b", "expected"), [(frozenset({"ha"}), ["a", "b"]), (frozenset(), ["a"])])
def test_who_hears_of_fewer_home_agents_is_no_candidate(reports_to_b: frozenset[str], expected: list[str]) -> None:
    def member(name: str, home_agents: frozenset[str]) -> MemberRecord:
        return MemberRecord(Member(name, None, 0.0, "0"), 1, frozenset({1}), home_agents)

    records = Records({"a": member("a", frozenset({"ha"})), "b": member("b", reports_to_b)})
    assert candidates_of(records) == {1: expected}
