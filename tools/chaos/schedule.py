# SPDX-License-Identifier: Apache-2.0
"""Choose what happens, by a seed: pure. The same seed, plan and choice of faults give the same steps."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from tools.chaos.addresses import Plan, ProxiedNode
from tools.chaos.faults import TABLE, Fault

MOVES = 2  # at most, in one step
HOME_SHARE = 0.15  # of moves
TOGETHER = 0.2  # share of steps with two faults at a time


@dataclass(frozen=True)
class Injected:
    """Inject a fault `after` seconds from the step's begin, for so many seconds."""

    fault: str
    target: str
    after: float
    seconds: float


@dataclass(frozen=True)
class Moved:
    """Move a mobile node to a link, 0 for home, `after` seconds from the step's begin."""

    node: str
    link: int
    after: float


@dataclass(frozen=True)
class Step:
    """Do these, then wait until all is direct again."""

    faults: tuple[Injected, ...]
    moves: tuple[Moved, ...]

    def dump(self) -> dict[str, Any]:
        """Return the step as it stands in a report."""
        return asdict(self)

    @classmethod
    def load(cls, fields: dict[str, Any]) -> "Step":
        """Return the step of a report."""
        faults, moves = fields["faults"], fields["moves"]
        return cls(tuple(Injected(**each) for each in faults), tuple(Moved(**each) for each in moves))

    def __str__(self) -> str:
        faults = [f"{each.fault} ({each.target}, {each.seconds:.1f} s)" for each in self.faults]
        return "; ".join(faults + [f"{each.node} to {each.link or 'home'}" for each in self.moves])


def chosen(only: Sequence[str], plan: Plan) -> list[Fault]:
    """Return the faults that can befall a network, of these kinds, or with these words in their names; all without any.

    Raises ValueError if there are none.
    """
    kinds = {each.kind for each in TABLE}
    found = [
        each
        for each in TABLE
        if (not only or any(word == each.kind if word in kinds else word in each.name for word in only))
        and each.targets_in(plan)
    ]
    if not found:
        raise ValueError(f"--only: expected a kind or part of a name of the table's faults, got {', '.join(only)}")
    return found


def steps(seed: int, plan: Plan, faults: Sequence[Fault], fast: bool = False) -> Iterator[Step]:
    """Return steps without end. Every kind comes as often; fast: faults last as short as they may."""
    random = Random(seed)
    kinds = sorted({each.kind for each in faults})
    while True:
        count = 2 if random.random() < TOGETHER else 1
        chosen_faults = [
            random.choice([f for f in faults if f.kind == random.choice(kinds)] or faults) for _ in range(count)
        ]
        injected = [_injected(random, each, plan, fast) for each in chosen_faults]
        if len({_node(each.target) for each in injected}) < len(injected) or any(each.alone for each in chosen_faults):
            injected = injected[:1]  # what one fault ends, another can't befall
        moves = [_moved(random, plan) for _ in range(random.randint(0, MOVES))]
        yield Step(tuple(injected), tuple({each.node: each for each in moves}.values()))


def _injected(random: Random, fault: Fault, plan: Plan, fast: bool) -> Injected:
    target = random.choice(fault.targets_in(plan))
    least, most = fault.seconds
    seconds = random.uniform(least, most)
    return Injected(fault.name, target, round(random.uniform(0.0, 2.0), 1), least if fast else round(seconds, 1))


def _node(target: str) -> str:
    return target.rpartition("-")[2]


def _moved(random: Random, plan: Plan) -> Moved:
    node = random.choice(plan.mobile_nodes)
    home = random.random() < HOME_SHARE and not isinstance(node, ProxiedNode)
    link = 0 if home else random.choice(node.links)
    return Moved(node.name, link, round(random.uniform(0.0, 6.0), 1))
