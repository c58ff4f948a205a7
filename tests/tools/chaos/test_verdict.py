# SPDX-License-Identifier: Apache-2.0
"""The judgement of a run: each class of violation is found, and nothing else is."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.tools.chaos.played import CORE, ONE, OTHER, PLAN, Played, bare, fault
from tools.chaos.addresses import FORGED, Flow
from tools.chaos.pace import Beat, Pace
from tools.chaos.packets import Kind, Record, octets
from tools.chaos.timeline import Claim, Inventory, Loss, Objection, Usage
from tools.chaos.verdict import all_direct, judge


def during(start: float, end: float, node: str = OTHER.name) -> Callable[[Flow, float], bool]:
    """Return a predicate for the packets from or to a node within a span of time."""
    return lambda flow, at: start <= at < end and node in (flow.source, flow.destination)


def checks(played: Played) -> list[str]:
    return sorted({each.check for each in judge(played.evidence()).violations})


def test_a_run_without_fault_keeps_all_promises() -> None:
    verdict = judge(Played().evidence())
    assert verdict.violations == []
    assert not verdict.lost
    assert verdict.sent > 600


# a


def test_packets_to_a_former_care_of_address_are_found() -> None:
    assert checks(Played(stale=10.0)) == ["a"]


def test_while_something_is_broken_they_may_go_there_for_a_lease() -> None:
    broken = [fault(29.0, 40.0)]
    assert checks(Played(stale=10.0, disturbances=broken)) == []
    assert checks(Played(stale=20.0, disturbances=broken)) == ["a"]


# b


def test_forged_packets_that_come_out_of_a_tunnel_are_found() -> None:
    assert checks(Played(further=[bare(FORGED, 10.0)])) == ["b"]
    assert checks(Played(further=[Record(10.0, Kind.RECEIVED, 0, FORGED, 7)])) == ["b"]


def test_forged_packets_on_their_way_in_are_none() -> None:
    tunnel = octets(OTHER.care_of_address(OTHER.links[0])), octets(ONE.home_agent.address)
    assert checks(Played(further=[Record(10.0, Kind.SEEN, CORE, FORGED, 7, *tunnel)])) == []


def test_packets_in_another_nodes_tunnel_are_found() -> None:
    (flow,) = (each for each in PLAN.flows() if (each.source, each.destination) == ("cn", ONE.name))
    address = octets(OTHER.care_of_address(OTHER.links[0]))
    crossed = Record(10.0, Kind.SEEN, CORE, flow.number, 20, octets(ONE.home_agent.address), address)
    strangers = Record(10.0, Kind.SEEN, CORE, flow.number, 20, address, octets(ONE.care_of_address(ONE.links[0])))
    assert checks(Played(further=[crossed])) == ["b"]
    assert checks(Played(further=[strangers])) == ["b"]


# c


def test_losses_without_a_fault_are_found() -> None:
    assert checks(Played(lost=during(10.0, 12.0))) == ["c"]


def test_a_fault_that_may_lose_nothing_excuses_nothing() -> None:
    assert checks(Played(lost=during(10.0, 12.0), disturbances=[fault(9.0, 13.0)])) == ["c"]


@pytest.mark.parametrize(
    ("loss", "kept"),
    [(Loss(5.0), True), (Loss(1.0), False), (Loss(1.0, after_end=True), True)],
    ids=["within the bound", "beyond the bound", "until the end"],
)
def test_a_faults_bound_is_held(loss: Loss, kept: bool) -> None:
    verdict = judge(Played(lost=during(10.0, 13.0), disturbances=[fault(9.0, 13.0, loss)]).evidence())
    assert [each.check for each in verdict.violations if each.check == "c"] == [] if kept else verdict.violations
    assert verdict.lost["something broken"] == 24 if kept else verdict.lost["nothing"]


def test_a_bound_for_what_a_link_is_too_narrow_for_excuses_no_smaller_packet() -> None:
    played = Played(lost=during(10.0, 13.0), disturbances=[fault(9.0, 13.0, Loss(5.0, over=1400))])
    lost = judge(played.evidence()).lost
    assert (lost["something broken"], lost["nothing"]) == (2, 22)  # two of the correspondent node's were large


def test_a_fault_excuses_no_losses_elsewhere() -> None:
    link = f"link{OTHER.links[0]}"
    excused = fault(9.0, 13.0, Loss(5.0), link)
    assert checks(Played(lost=during(10.0, 12.0), disturbances=[excused])) == []
    elsewhere = replace(excused, places=frozenset({"link9"}))
    assert checks(Played(lost=during(10.0, 12.0), disturbances=[elsewhere])) == ["c"]


def test_a_fault_excuses_nothing_once_all_was_direct() -> None:
    played = Played(lost=during(14.0, 16.0), disturbances=[fault(9.0, 10.0, Loss(30.0))])
    assert checks(played) == []
    found = judge(replace(played.evidence(), settled=[12.0])).violations
    assert {each.check for each in found} == {"c"}


def test_a_move_excuses_what_is_under_way() -> None:
    assert checks(Played(lost=during(29.8, 32.0, ONE.name))) == []
    assert checks(Played(lost=during(29.8, 35.0, ONE.name))) == ["c"]


# d


def test_what_is_said_to_be_active_but_goes_by_the_home_agent_is_found() -> None:
    said = [Claim(float(at), "c1", OTHER.home_address, "active") for at in range(60)]
    assert checks(Played(by_home_agent=during(0.0, 60.0), claims=said)) == ["d"]


@pytest.mark.parametrize(("until", "expected"), [(25.0, []), (27.0, ["d"])])
def test_what_is_said_may_lag_behind_for_a_while(until: float, expected: list[str]) -> None:
    said = [Claim(float(at), "c1", OTHER.home_address, "active") for at in range(60)]
    assert checks(Played(by_home_agent=during(15.0, until), claims=said)) == expected


def test_what_is_said_to_be_partial_may_go_by_the_home_agent() -> None:
    said = [Claim(float(at), "c1", OTHER.home_address, "partial") for at in range(60)]
    assert checks(Played(by_home_agent=during(0.0, 60.0), claims=said)) == []


def test_whoever_says_that_direct_packets_are_not_is_found() -> None:
    objections = [Objection(20.0, "/readyz of c1: router 2 is out of step")]
    (found,) = judge(replace(Played().evidence(), objections=objections)).violations
    assert found.check == "d"
    assert "/readyz of c1" in found.text


# e


def test_a_system_that_does_not_recover_is_found() -> None:
    broken = [fault(5.0, 10.0)]
    assert checks(Played(by_home_agent=during(6.0, 25.0), disturbances=broken)) == []
    assert checks(Played(by_home_agent=during(6.0, 45.0), disturbances=broken)) == ["e"]


def test_a_run_that_ends_before_all_is_direct_is_found() -> None:
    assert checks(Played(by_home_agent=during(51.0, 60.0), disturbances=[fault(50.0, 52.0)])) == ["e"]


def test_a_run_that_was_given_up_is_found() -> None:
    assert [each.check for each in judge(replace(Played().evidence(), gave_up=59.0)).violations] == ["e"]


def test_the_worst_recovery_is_told() -> None:
    verdict = judge(Played(by_home_agent=during(6.0, 25.0), disturbances=[fault(5.0, 10.0)]).evidence())
    assert verdict.recovery == {"something broken": 14.5}


# f

USAGE = Usage(1, 100.0, 30)
BEFORE = Inventory({"c1": USAGE}, {"r1": frozenset({"hoaflow-1"})})


@pytest.mark.parametrize(
    "after",
    [
        replace(BEFORE, processes={"c1": replace(USAGE, memory=300.0)}),
        replace(BEFORE, processes={"c1": replace(USAGE, descriptors=300)}),
        replace(BEFORE, processes={}),
        replace(BEFORE, processes={"c1": USAGE, "left over": USAGE}),
        replace(BEFORE, namespaces={"r1": frozenset({"hoaflow-1", "hoaflow-2"})}),
    ],
    ids=["memory", "descriptors", "ended", "left over", "namespaces"],
)
def test_what_is_left_over_is_found(after: Inventory) -> None:
    assert checks(Played(before=BEFORE, after=BEFORE)) == []
    assert checks(Played(before=BEFORE, after=after)) == ["f"]


# g


@pytest.mark.parametrize(("every", "expected"), [(0.01, ["g"]), (0.05, [])])
def test_packets_that_go_in_circles_are_found(every: float, expected: list[str]) -> None:
    (flow,) = (each for each in PLAN.flows() if (each.source, each.destination) == ("cn", ONE.name))
    assert checks(Played(further=[bare(flow.number, 10.0 + every * turn, 20) for turn in range(60)])) == expected


# The runner


def test_all_is_direct_only_if_every_flows_packets_are() -> None:
    assert all_direct(Played().evidence(), 50.0)
    assert not all_direct(Played(by_home_agent=during(55.0, 55.5)).evidence(), 50.0)
    assert not all_direct(Played(lost=during(55.0, 55.5)).evidence(), 50.0)
    assert not all_direct(Played().evidence(), 59.0)  # packets that are under way tell nothing


# A machine that is busy with something else


def test_bounds_are_in_seconds_that_programs_had() -> None:
    slow = Pace([Beat(0.0, 1.0), Beat(60.0, 2.0)])
    lost = Played(lost=during(10.0, 20.0), disturbances=[fault(10.0, 11.0, Loss(5.0))])
    assert checks(lost) == ["c"]
    assert judge(replace(lost.evidence(), pace=slow)).violations == []
    nothing = Played(lost=during(10.0, 10.5), disturbances=[fault(10.0, 11.0)])
    assert [each.check for each in judge(replace(nothing.evidence(), pace=slow)).violations] == ["c"] * 4
