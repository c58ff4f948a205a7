# SPDX-License-Identifier: Apache-2.0
"""Several controllers of one router: what each is told, and whose tunnel list the kernel follows."""

from __future__ import annotations

import random

from hoaflow.client.directory import ClusterView, MemberAddress
from hoaflow.router.announcement import Announcement
from hoaflow.router.client import ControllerError, Refused, UnknownRouter
from hoaflow.router.member import Acknowledge, Ask, Command, Member, Poll
from hoaflow.router.members import Members
from hoaflow.router.tunnel_plan import InstalledTunnels, Tunnel, TunnelList, plan

A, B, C = (f"http://192.0.2.{n}:8080" for n in (1, 2, 3))
HA = "2001:db8:99::1"
HOA, OTHER = "2001:db8:99::100", "2001:db8:99::200"
LINK_1, LINK_2 = "2001:db8:2::2", "2001:db8:3::2"
LEASE = 10.0


class Router:
    """An agent's members, and a kernel that carries what it is told to. `lists`: what each controller lists, by URL."""

    def __init__(self, *urls: str) -> None:
        self.notes: list[str] = []
        self.members = Members(
            urls,
            lambda *_, **__: None,
            lambda address, state: self.notes.append(f"{address} {state}"),
            random.Random(1),
        )
        self.kernel = InstalledTunnels()
        self.now = 0.0
        self.acknowledged: dict[str, list[int]] = {url: [] for url in urls}
        self.under_way: list[tuple[Member, Command]] = []

    def _note(self, address: MemberAddress, state: str) -> None:
        self.notes.append(f"{address} {state}")

    def member(self, url: str) -> Member:
        return next(member for member in self.members if member.address.url == url)

    def turn(self) -> list[Command]:
        """Do what the agent's loop does; polls stay under way, announcements and questions are answered."""
        if self.members.take_changed():
            for desired in self.members.desired.by_home_agent.values():
                todo = plan(desired, self.kernel, desired.take_changed())
                self.kernel.routes.update(todo.set_routes)
                for home_address in todo.drop_routes:
                    del self.kernel.routes[home_address]
        self.members.settle(lambda _, home_address, care_of: self.kernel.routes.get(home_address) == care_of)
        due = self.members.next(Announcement(), self.now)
        for member, command in due:
            if isinstance(command, Acknowledge):
                self.acknowledged[member.address.url].append(command.revision)
                self.members.acknowledged(member, command, LEASE, self.now)
            elif isinstance(command, Ask):
                self.members.asked(member, ClusterView(), self.now)
        return [command for _, command in due]

    def lists(
        self,
        url: str,
        revision: int,
        tunnels: dict[str, str],
        full: bool = True,
        removed: tuple[str, ...] = (),
        complete: bool = True,
        master: bool = False,
        generation: int = 1,
    ) -> None:
        """Let a controller answer the poll that is under way."""
        listed = tuple(Tunnel(home_address, care_of, HA) for home_address, care_of in tunnels.items())
        known = frozenset({HA} if complete else ())
        answer = TunnelList(revision, full, known, listed, removed, master, generation)
        self.members.polled(self.member(url), answer, self.now)
        while self.turn():
            pass

    def fails(self, url: str, error: ControllerError | None = None) -> None:
        """Let the poll that is under way at a controller fail."""
        self.members.polled(self.member(url), error or ControllerError("connection refused"), self.now)
        self.turn()


def started(*urls: str) -> Router:
    """Return a router of which all controllers know, with polls under way."""
    router = Router(*urls)
    assert [type(command) for command in router.turn()] == [Acknowledge] * len(urls)
    while router.turn():
        pass
    return router


def at_link_1(*urls: str) -> Router:
    """Return a router whose controllers all list one tunnel; the first one is its master."""
    router = started(*urls)
    for revision, url in enumerate(urls, 100):
        router.lists(url, revision, {HOA: LINK_1}, master=url == urls[0])
    assert router.kernel.routes == {HOA: LINK_1}
    assert [router.acknowledged[url] for url in urls] == [[0, revision] for revision, _ in enumerate(urls, 100)]
    return router


def test_the_masters_list_is_followed_and_the_others_wait_until_they_agree() -> None:
    router = at_link_1(A, B)
    router.lists(B, 201, {HOA: LINK_2}, full=False)
    assert router.kernel.routes == {HOA: LINK_1}, "a handover that only the slave knows of"
    assert router.acknowledged[B][-1] == 101
    router.lists(A, 200, {HOA: LINK_2}, full=False, master=True)
    assert router.kernel.routes == {HOA: LINK_2}
    assert [router.acknowledged[url][-1] for url in (A, B)] == [200, 201]


def test_a_lagging_slave_changes_nothing_and_holds_nobody_up() -> None:
    router = at_link_1(A, B)
    router.lists(A, 200, {HOA: LINK_2, OTHER: LINK_1}, full=False, master=True)
    assert router.kernel.routes == {HOA: LINK_2, OTHER: LINK_1}
    assert router.acknowledged[A][-1] == 200


def test_a_new_masters_list_is_followed_at_once() -> None:
    router = at_link_1(A, B, C)
    router.lists(B, 201, {HOA: LINK_2}, full=False)
    router.lists(B, 201, {}, full=False, master=True, generation=2)
    assert router.kernel.routes == {HOA: LINK_2}
    assert router.acknowledged[B][-1] == 201


def test_a_former_master_that_wakes_is_not_believed() -> None:
    router = at_link_1(A, B)
    router.lists(B, 201, {HOA: LINK_2}, full=False, master=True, generation=2)
    router.lists(A, 200, {OTHER: LINK_1}, full=False, removed=(HOA,), master=True, generation=1)
    assert router.kernel.routes == {HOA: LINK_2}


def test_a_master_that_another_member_knows_to_be_former_is_not_believed() -> None:
    router = at_link_1(A, B, C)
    router.lists(C, 102, {}, full=False, generation=2)
    router.fails(A)
    router.lists(B, 201, {HOA: LINK_2}, full=False)
    assert router.kernel.routes == {HOA: LINK_2}
    router.lists(A, 100, {}, full=False, master=True, generation=1)
    assert router.kernel.routes == {HOA: LINK_2}


def test_while_the_master_does_not_answer_another_list_is_followed() -> None:
    router = at_link_1(A, B)
    router.fails(A)
    assert router.kernel.routes == {HOA: LINK_1}
    router.lists(B, 201, {HOA: LINK_2}, full=False)
    assert router.kernel.routes == {HOA: LINK_2}


def test_without_a_known_master_the_list_followed_so_far_is_followed_on() -> None:
    router = at_link_1(A, B)
    router.fails(A)
    router.now += 1.0
    while router.turn():
        pass
    router.lists(A, 200, {HOA: LINK_2}, full=False)
    assert router.kernel.routes == {HOA: LINK_1}


def test_a_list_that_is_followed_again_is_compared_as_a_whole() -> None:
    router = at_link_1(A, B)
    router.lists(B, 201, {HOA: LINK_2}, full=False, master=True, generation=2)
    router.lists(A, 200, {}, full=False, master=True, generation=3)
    assert router.kernel.routes == {HOA: LINK_1}


def test_what_comes_of_a_call_after_another_has_failed_counts_for_nothing() -> None:
    router = at_link_1(A, B)
    member = router.member(A)
    (acknowledge,) = (each for each in member.next(Announcement(macs=("02:00:00:00:00:01",)), router.now))
    assert isinstance(acknowledge, Acknowledge)
    router.fails(A)
    router.members.acknowledged(member, acknowledge, LEASE, router.now)
    assert not member.answers


def test_while_nobody_answers_the_kernel_stays_as_it_is() -> None:
    router = at_link_1(A, B)
    router.fails(A)
    router.fails(B)
    assert router.kernel.routes == {HOA: LINK_1}


def test_a_member_that_has_restarted_removes_nothing_before_it_knows_all() -> None:
    router = at_link_1(A, B)
    router.fails(A, UnknownRouter("404"))
    router.lists(B, 201, {HOA: LINK_2}, full=False)
    assert router.kernel.routes == {HOA: LINK_2}, "a list that is known goes before a master without one"
    router.lists(B, 202, {HOA: LINK_1}, full=False)
    router.now += 1.0
    while router.turn():
        pass
    router.lists(A, 1000, {OTHER: LINK_1}, complete=False, master=True)
    assert router.kernel.routes == {HOA: LINK_1, OTHER: LINK_1}
    router.lists(A, 1001, {OTHER: LINK_1}, master=True)
    assert router.kernel.routes == {OTHER: LINK_1}
    assert router.acknowledged[A][-3:] == [0, 1000, 1001]


def test_what_another_list_has_removed_stays_until_the_followed_one_removes_it() -> None:
    router = at_link_1(A, B)
    router.lists(B, 201, {}, full=False, removed=(HOA,))
    assert router.kernel.routes == {HOA: LINK_1}
    assert router.acknowledged[B][-1] == 201
    router.lists(A, 200, {}, full=False, removed=(HOA,), master=True)
    assert router.kernel.routes == {}


def test_a_controller_that_refuses_or_is_dead_delays_no_other() -> None:
    router = at_link_1(A, B, C)
    router.fails(B, Refused("401", 60.0))
    router.fails(C)
    for _ in range(50):
        router.now += 0.5
        asked = router.turn()
        assert len([command for command in asked if isinstance(command, Poll)]) <= 1
    router.lists(A, 200, {HOA: LINK_2}, full=False, master=True)
    assert router.acknowledged[A][-1] == 200
    assert any(note.startswith(f"{B} refuses") for note in router.notes)
    assert any(note.startswith(f"{C} lost") for note in router.notes)


def test_members_are_found_through_one_and_announced_to() -> None:
    router = started(A)
    router.acknowledged |= {B: []}
    router.members.asked(router.member(A), ClusterView("hoaflow", "a", {"a": A, "b": B}), router.now)
    router.turn()
    assert router.acknowledged[B] == [0]
