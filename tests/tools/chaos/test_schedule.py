# SPDX-License-Identifier: Apache-2.0
"""What happens is the seed's choice, and what fails is shrunk."""

import json
from collections.abc import Sequence
from itertools import islice

import pytest

from controller.cluster.mastership import STRANGER_GONE
from tools.chaos.addresses import BPF, BY_FLOWS, FLOW, IN_IPV4, SEG6, Plan, plan
from tools.chaos.faults import TABLE, places
from tools.chaos.network import ChaosTopo
from tools.chaos.schedule import Step, chosen, steps
from tools.chaos.shrink import shrink
from topologies.ovs_router import KERNEL

PLAN, MIXED = plan(), plan(flow=True)
FAULTS = chosen([], PLAN)


def test_the_same_seed_gives_the_same_steps() -> None:
    first, again, other = (list(islice(steps(seed, PLAN, FAULTS), 50)) for seed in (1, 1, 2))
    assert first == again != other


def test_every_fault_comes_to_pass_in_time() -> None:
    done = {
        each.fault
        for plan in (PLAN, MIXED)
        for step in islice(steps(1, plan, chosen([], plan)), 1000)
        for each in step.faults
    }
    assert done == {each.name for each in TABLE}


@pytest.mark.parametrize("network", [PLAN, MIXED, plan(2)], ids=["route", "both", "small"])
def test_only_what_is_there_is_broken(network: Plan) -> None:
    faults = chosen([], network)
    assert all(each.targets_in(network) for each in faults)
    assert {each.plane for each in faults} == {
        plane for plane in (None, SEG6, BPF, FLOW) if network.routers_with(plane)
    }


def test_where_the_kernel_has_the_flow_backend_some_routers_have_it_and_the_others_its_faults_do_not_befall() -> None:
    (deleted,), (down,) = chosen(["endpoint deleted"], MIXED), chosen(["tunnel device's link down"], MIXED)
    assert down.targets_in(MIXED) == list(BY_FLOWS)
    assert sorted(deleted.targets_in(MIXED) + down.targets_in(MIXED)) == sorted(MIXED.routers)
    topology = ChaosTopo(MIXED)
    assert [router for router in MIXED.routers if topology.datapath_of(router) == KERNEL] == list(BY_FLOWS)


def test_what_the_flow_backend_does_not_carry_is_left_out_with_it() -> None:
    assert [node.number for node in PLAN.mobile_nodes if node not in MIXED.mobile_nodes] == list(IN_IPV4)
    assert MIXED.ipv4_home_agents == ()


def test_a_mobile_node_of_proxy_mobile_ipv6_has_no_home_link() -> None:
    (proxied,) = PLAN.proxied
    moves = (move for step in islice(steps(1, PLAN, FAULTS), 1000) for move in step.moves)
    assert {move.link for move in moves if move.node == proxied.name} == set(proxied.links)


def test_every_fault_befalls_something_that_is_there() -> None:
    for each in TABLE:
        targets = [target for plan in (PLAN, MIXED) for target in each.targets_in(plan)]
        assert targets, each.name
        assert not any("{" in target or "," in target for target in targets), each.name
    (killed,) = chosen(["anchor killed"], PLAN)
    assert killed.targets_in(PLAN) == ["ha1", "ha2", "lma"], "the other one has no journal"


def test_what_is_known_to_hoaflow_alone_is_broken_alone() -> None:
    alone = {each.name for each in TABLE if each.alone}
    seen = [step for step in islice(steps(1, PLAN, FAULTS), 1000) if any(each.fault in alone for each in step.faults)]
    assert seen
    assert {len(step.faults) for step in seen} == {1}


def test_only_the_chosen_faults_come_to_pass() -> None:
    kinds = {each.kind for each in TABLE if each in chosen(["switch"], PLAN)}
    assert kinds == {"switch"}
    assert {each.name for each in chosen(["controller killed"], PLAN)} == {"controller killed"}
    with pytest.raises(ValueError, match="got nonsense"):
        chosen(["nonsense"], PLAN)


def test_a_stranger_may_be_told_of_for_as_long_as_controllers_do() -> None:
    (stranger,) = chosen(["stranger is the switch's master"], PLAN)
    assert stranger.agrees > STRANGER_GONE


def test_steps_survive_their_report() -> None:
    for step in islice(steps(1, PLAN, FAULTS), 20):
        assert Step.load(json.loads(json.dumps(step.dump()))) == step


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("r1", {"cn"}),
        ("ovs-vswitchd-r3", {"link2"}),
        ("bridge-ha1", {"ha1"}),
        ("etcd-c1", set()),
        ("c2", set()),
        ("bridge-lma", {"lma"}),
        ("mag2", {"mn8"}),
        ("bridge-ha3", {"ha3"}),
        ("mn7", {"mn7"}),
    ],
)
def test_a_fault_is_somewhere(target: str, expected: set[str]) -> None:
    assert places(target) == expected


@pytest.mark.parametrize("culprits", [{7}, {3, 12}, {0, 19}], ids=str)
def test_what_fails_is_shrunk_to_what_is_needed(culprits: set[int]) -> None:
    def fails(some: Sequence[int]) -> bool:
        return culprits <= set(some)

    found, used = shrink(range(20), fails, 100)
    assert set(found) == culprits
    assert used <= 100


def test_shrinking_ends_after_its_runs() -> None:
    found, used = shrink(range(100), lambda some: 99 in some and 0 in some, 3)
    assert used == 3
    assert {0, 99} <= set(found)
