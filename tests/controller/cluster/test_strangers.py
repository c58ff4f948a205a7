# SPDX-License-Identifier: Apache-2.0
"""A stranger that takes a router again and again is told of once, and fought for less and less often."""

from collections.abc import Sequence

from controller.cluster.commands import Command, Elect, TakenByStranger, TakeRole
from controller.cluster.mastership import Mastership
from controller.cluster.records import MemberRecord, Records, RouterRecord
from controller.cluster.view import Member

LEASE = 9
STEP = 0.1
RECONNECTED_WITHIN = 1.4


class Fought:
    """Member `a` beside a member `b`: strangers take its switch, and etcd carries each election out at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.mastership = Mastership("a")
        self.commands: list[Command] = []
        self.taken_at = 0.0
        self._generation = 1
        self._grant("a")
        self._connect(0)

    def _grant(self, master: str) -> None:
        members = {
            name: MemberRecord(Member(name, None, 0.0, "0"), lease, frozenset({1}), frozenset())
            for name, lease in (("a", LEASE), ("b", LEASE + 1))
        }
        record = RouterRecord(master, LEASE, self._generation, self._generation)
        self.mastership.observe(Records(members, {1: record}))

    def _connect(self, generation: int) -> None:
        self.mastership.switch_connected(1, generation)
        self._until_taken()

    def _until_taken(self) -> None:
        """Let time pass until the member is master."""
        while True:
            self.mastership.lease_renewed(LEASE, self.now, 3.0)
            commands: Sequence[Command] = self.mastership.decide(self.now)
            self.commands += commands
            for command in commands:
                if isinstance(command, Elect):
                    self._generation = command.generation
                    self._grant(command.member)
                elif isinstance(command, TakeRole):
                    self.mastership.role_taken(1, command.generation)
                    self.taken_at = self.now
                    return
            self.now += STEP

    def take(self, generation: int) -> float:
        """Have a stranger take the switch; return for how long it has it."""
        before = self.now
        self.mastership.overtaken(1, self.now)
        self.mastership.switch_gone(1)
        self.hold(RECONNECTED_WITHIN)
        self._connect(generation)
        return self.taken_at - before

    def hold(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self.now < until:
            self.now += STEP
            self.mastership.lease_renewed(LEASE, self.now, 3.0)
            self.commands += self.mastership.decide(self.now)

    def told(self) -> list[Command]:
        """Return what was told of strangers."""
        return [each for each in self.commands if isinstance(each, TakenByStranger)]


def test_each_time_it_waits_longer_and_it_tells_once() -> None:
    fought = Fought()
    waits = [fought.take(10 * number) for number in range(1, 8)]
    for wait, least in zip(waits, (1.5, 3.0, 6.0, 12.0, 24.0, 30.0, 30.0), strict=True):
        assert least <= wait < least + 2 * STEP
    assert fought.told() == [TakenByStranger(1, 1)]
    assert {each.member for each in fought.commands if isinstance(each, Elect)} == {"a"}, "nobody else has to fight"


def test_with_an_equal_generation_it_waits_as_well() -> None:
    fought = Fought()
    assert fought.take(1) > 1.0
    assert fought.take(1) > 2.0
    assert not any(isinstance(each, Elect) for each in fought.commands)


def test_a_minute_held_ends_it() -> None:
    fought = Fought()
    for number in range(1, 4):
        fought.take(10 * number)
    fought.hold(61.0)
    assert fought.told() == [TakenByStranger(1, 1), TakenByStranger(1, None)]
    assert fought.take(100) < 2.0


def test_a_member_whose_lease_may_have_ended_is_overtaken_by_another_member() -> None:
    fought = Fought()
    fought.now += 3.5
    fought.take(10)
    assert fought.told() == []
