# SPDX-License-Identifier: Apache-2.0
"""What happens is the seed's choice, and what fails is shrunk."""

import json
from collections.abc import Sequence
from itertools import islice

import pytest

from controller.cluster.mastership import STRANGER_GONE
from tools.chaos.addresses import plan
from tools.chaos.faults import TABLE, places
from tools.chaos.schedule import Step, chosen, steps
from tools.chaos.shrink import shrink

PLAN = plan()


def test_the_same_seed_gives_the_same_steps() -> None:
    first, again, other = (list(islice(steps(seed, PLAN, TABLE), 50)) for seed in (1, 1, 2))
    assert first == again != other


def test_every_fault_comes_to_pass_in_time() -> None:
    done = {each.fault for step in islice(steps(1, PLAN, TABLE), 1000) for each in step.faults}
    assert done == {each.name for each in TABLE}


def test_a_mobile_node_of_proxy_mobile_ipv6_has_no_home_link() -> None:
    (proxied,) = PLAN.proxied
    moves = (move for step in islice(steps(1, PLAN, TABLE), 1000) for move in step.moves)
    assert {move.link for move in moves if move.node == proxied.name} == set(proxied.links)


def test_every_fault_befalls_something_that_is_there() -> None:
    for each in TABLE:
        assert each.targets_in(PLAN), each.name
        assert not any("{" in target or "," in target for target in each.targets_in(PLAN)), each.name
    (killed,) = chosen(["anchor killed"])
    assert killed.targets_in(PLAN) == ["ha1", "ha2", "lma"], "the other one has no journal"


def test_what_is_known_to_hoaflow_alone_is_broken_alone() -> None:
    alone = {each.name for each in TABLE if each.alone}
    seen = [step for step in islice(steps(1, PLAN, TABLE), 1000) if any(each.fault in alone for each in step.faults)]
    assert seen
    assert {len(step.faults) for step in seen} == {1}


def test_only_the_chosen_faults_come_to_pass() -> None:
    kinds = {each.kind for each in TABLE if each in chosen(["switch"])}
    assert kinds == {"switch"}
    assert {each.name for each in chosen(["controller killed"])} == {"controller killed"}
    with pytest.raises(ValueError, match="got nonsense"):
        chosen(["nonsense"])


def test_a_stranger_may_be_told_of_for_as_long_as_controllers_do() -> None:
    (stranger,) = chosen(["stranger is the switch's master"])
    assert stranger.agrees > STRANGER_GONE


def test_steps_survive_their_report() -> None:
    for step in islice(steps(1, PLAN, TABLE), 20):
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
