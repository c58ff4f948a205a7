# SPDX-License-Identifier: Apache-2.0
"""What the bridge does when the controller fails, restarts, refuses or denies access."""

import pytest

from ha_bridge.commands import Announce, Failed, Send, Snapshot, Verdict
from tests.support.bridge import HOA, LINK_1, LINK_2, OTHER
from tests.support.bridge_world import UNREACHABLE, Registration, at_link_1


@pytest.mark.parametrize("failure", [UNREACHABLE, Failed("status 500", reached=True)])
def test_nothing_is_lost_while_the_controller_fails(failure: Failed) -> None:
    world = at_link_1()
    world.fail = lambda command: failure
    world.cache[HOA] = Registration(LINK_2)
    world.cache[OTHER] = Registration(LINK_1)
    world.run(120)
    attempts = world.count(Announce) + world.count(Send) + world.count(Snapshot)
    assert 30 < attempts < 150, "retries are bounded"
    world.fail = lambda command: None
    world.run(6)
    assert world.care_of() == {HOA: LINK_2, OTHER: LINK_1}
    met = world.events("controller-unreachable") + world.events("announcement-refused")
    assert len(met) == len(world.events("controller-reachable")) == 1


def test_a_controller_that_denies_access_is_not_hammered_and_let_in_again() -> None:
    world = at_link_1()
    denied = Failed("401: not a token that is known here", reached=True, retry_after=10.0)
    world.fail = lambda command: denied if isinstance(command, Announce | Send | Snapshot) else None
    world.run(5)
    before = len(world.commands)
    world.change()
    world.cache[HOA].care_of = LINK_2
    world.run(60)
    asked = [command for command in world.commands[before:] if isinstance(command, Announce | Send | Snapshot)]
    assert 5 <= len(asked) <= 7
    assert len(world.events("announcement-refused")) == 1
    world.fail = lambda command: None
    world.run(11)
    assert world.held[HOA][0] == LINK_2


def test_a_request_that_may_have_been_applied_is_put_right_by_a_snapshot() -> None:
    world = at_link_1()

    def applied_but_timed_out(command: object) -> Failed | None:
        if isinstance(command, Send):
            world._sent(command)
            del world.cache[OTHER]
            world.fail = lambda command: None
            return Failed("read timed out", reached=False)
        return None

    world.fail = applied_but_timed_out
    world.cache[OTHER] = Registration(LINK_1)
    world.run(5)
    assert world.care_of() == {HOA: LINK_1}


def test_controller_restart_is_noticed_by_the_next_renewal() -> None:
    world = at_link_1()
    world.restart()
    world.run(3.5)
    assert world.care_of() == {HOA: LINK_1}


def test_unknown_home_agent_is_announced_then_sent_whole() -> None:
    world = at_link_1()
    world.restart()
    world.cache[OTHER] = Registration(LINK_1)
    world.run(2)
    assert world.care_of() == {HOA: LINK_1, OTHER: LINK_1}
    assert world.events("home-agent-unknown")


def test_stale_binding_leads_to_a_fresh_look_then_to_a_snapshot() -> None:
    world = at_link_1(poll=30.0, lifetimes=False)

    def stale(command: object) -> list[Verdict] | None:
        return [Verdict(409) for _ in command.reports] if isinstance(command, Send) else None

    world.fail = stale
    world.cache[HOA] = Registration(LINK_2, sequence=0)
    world.run(32)  # one regular look, at once another, and the snapshot
    assert world.care_of() == {HOA: LINK_2}
    assert (world.count(Send), world.count(Snapshot)) == (1, 2)


def test_stale_binding_that_the_home_agent_no_longer_shows_needs_no_snapshot() -> None:
    world = at_link_1()

    def stale(command: object) -> list[Verdict] | None:
        if isinstance(command, Send) and command.reports[0].registration is not None:
            world.cache[HOA] = Registration(LINK_1)
            return [Verdict(409)]
        return None

    world.fail = stale
    world.cache[HOA] = Registration(LINK_2, sequence=0)
    world.run(5)
    assert world.care_of() == {HOA: LINK_1}
    assert (world.count(Send), world.count(Snapshot)) == (1, 1)


def test_refused_binding_is_said_once_and_its_old_care_of_address_withdrawn() -> None:
    world = at_link_1(lifetimes=False)
    world.cache[OTHER] = Registration(LINK_1)
    world.run(1.5)

    def forbidden(command: object) -> list[Verdict] | None:
        if isinstance(command, Send) and any(report.registration for report in command.reports):
            return [Verdict(422, "care_of_address: no")]
        return None

    world.fail = forbidden
    world.cache[HOA] = Registration(LINK_2)
    sent = world.count(Send)
    world.run(20)
    assert world.care_of() == {OTHER: LINK_1}
    assert len(world.events("binding-refused")) == 1
    assert world.count(Send) == sent + 2
    world.fail = lambda command: None
    world.cache[HOA] = Registration(LINK_1)
    world.run(1.5)
    assert world.care_of() == {HOA: LINK_1, OTHER: LINK_1}
