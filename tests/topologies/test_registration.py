# SPDX-License-Identifier: Apache-2.0
"""The mobile node's registration: retransmission, refresh, sequence corrections, authenticated answers only."""

from dataclasses import replace
from itertools import pairwise

import pytest

from hoaflow.mobility import home_agent_switch, wire
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.home_agent_switch import HomeAgentSwitch
from hoaflow.mobility.messages import (
    BindingAcknowledgement,
    BindingUpdate,
    Ipv4AddressAcknowledgement,
    MnHaAuthentication,
    Status,
)
from topologies.registration import Outcome, Registration

HOME_AGENT, HOME_ADDRESS = "2001:db8:99::1", "2001:db8:99::100"
CARE_OF_1, CARE_OF_2 = "2001:db8:2::2", "2001:db8:3::2"
ASSOCIATION = SecurityAssociation(256, bytes(16))


def registration(association: SecurityAssociation | None = None, sequence: int = 100) -> Registration:
    """Return one that has not sent anything yet."""
    return Registration(HOME_ADDRESS, HOME_AGENT, 60, sequence, association)


def answer(update: BindingUpdate, status: int = 0, **changes: int) -> BindingAcknowledgement:
    """Return the home agent's answer, not authenticated."""
    lifetime = update.lifetime if status == 0 else 0
    base = BindingAcknowledgement(HOME_AGENT, update.source, HOME_ADDRESS, update.sequence, status, lifetime)
    return replace(base, **changes)  # type: ignore[arg-type]


def signed(acknowledgement: BindingAcknowledgement, association: SecurityAssociation) -> BindingAcknowledgement:
    """Return the answer with its authentication option."""
    covered = wire.authenticated_part(wire.binding_acknowledgement_header(acknowledgement, association.spi))
    authenticator = association.authenticator(acknowledgement.destination, HOME_ADDRESS, covered)
    return replace(acknowledgement, authentication=MnHaAuthentication(association.spi, covered, authenticator))


def sent(node: Registration, now: float) -> BindingUpdate:
    """Return the update that is due."""
    update = node.tick(now)
    assert update is not None
    return update


def registered(now: float = 0.0) -> Registration:
    """Return one that is registered by CARE_OF_1, by an update sent at `now`, sequence 101."""
    node = registration()
    node.attach(CARE_OF_1, now)
    assert node.acknowledged(answer(sent(node, now)), now + 1.0) is Outcome.REGISTERED
    return node


def test_the_first_update() -> None:
    node = registration()
    node.attach(CARE_OF_1, 5.0)
    assert sent(node, 5.0) == BindingUpdate(CARE_OF_1, HOME_AGENT, HOME_ADDRESS, CARE_OF_1, 101, 60)
    assert node.tick(5.1) is None


def test_a_mobile_router_names_its_networks_and_wants_them_confirmed() -> None:
    networks = ("2001:db8:aa::/64",)
    node = Registration(HOME_ADDRESS, HOME_AGENT, 60, 100, None, mobile_router=True, named_networks=networks)
    node.attach(CARE_OF_1, 0.0)
    update = sent(node, 0.0)
    assert (update.mobile_router, update.mobile_networks) == (True, networks)
    # A home agent that knows no mobile routers has taken it for a mobile node.
    assert node.acknowledged(answer(update), 0.5) is Outcome.REFUSED
    update = sent(node, 40.0)
    assert node.acknowledged(answer(update, mobile_router=True), 41.0) is Outcome.REGISTERED


def test_a_dual_stack_node_names_its_ipv4_home_address_and_wants_it_confirmed() -> None:
    node = Registration(HOME_ADDRESS, HOME_AGENT, 60, 100, None, ipv4_home_address="10.99.0.100")
    for at, said, outcome in (
        (0.0, None, Outcome.REFUSED),
        (40.0, Ipv4AddressAcknowledgement(130, "10.99.0.100"), Outcome.REFUSED),
        (80.0, Ipv4AddressAcknowledgement(0, "10.99.0.100"), Outcome.REGISTERED),
    ):
        if at == 0.0:
            node.attach(CARE_OF_1, at)
        update = sent(node, at)
        assert update.ipv4_home_address == "10.99.0.100"
        assert node.acknowledged(replace(answer(update), ipv4=said), at + 1.0) is outcome
    node.attach(HOME_ADDRESS, 90.0)
    assert sent(node, 90.0).ipv4_home_address is None


def test_without_an_answer_it_asks_again_ever_more_rarely_with_new_sequence_numbers() -> None:
    node = registration()
    node.attach(CARE_OF_1, 0.0)
    moments, now = [], 0.0
    for _ in range(9):
        update = sent(node, now)
        moments.append((update.sequence, now))
        due = node.next_due()
        assert due is not None
        assert node.tick(due - 0.01) is None
        now = due
    pauses = [later - earlier for (_, earlier), (_, later) in pairwise(moments)]
    assert pauses == [1.5, 3.0, 6.0, 12.0, 24.0, 32.0, 32.0, 32.0]
    assert [sequence for sequence, _ in moments] == list(range(101, 110))


def test_a_handover_of_a_bound_node_starts_with_the_short_timeout() -> None:
    node = registered()
    node.attach(CARE_OF_2, 10.0)
    assert sent(node, 10.0).care_of_address == CARE_OF_2
    assert node.next_due() == 11.0


def test_it_refreshes_well_before_the_lifetime_is_over() -> None:
    node = registered()
    assert node.tick(39.9) is None
    assert sent(node, 40.0).sequence == 102


def test_the_lifetime_counts_from_the_update_and_ends() -> None:
    node = registered()
    assert node.expires == 60.0
    node.detach()
    assert node.tick(59.9) is None
    assert node.bound
    assert node.tick(60.0) is None
    assert not node.bound


def test_sequence_numbers_wrap() -> None:
    node = registration(sequence=0xFFFF)
    node.attach(CARE_OF_1, 0.0)
    assert sent(node, 0.0).sequence == 0


def test_a_told_sequence_number_is_taken_over_at_once() -> None:
    node = registration()
    node.attach(CARE_OF_1, 0.0)
    told = answer(sent(node, 0.0), Status.SEQUENCE_OUT_OF_WINDOW, sequence=20000)
    assert node.acknowledged(told, 0.1) is Outcome.CORRECTED
    assert sent(node, 0.1).sequence == 20001


def test_it_does_not_follow_corrections_for_ever() -> None:
    node = registration()
    node.attach(CARE_OF_1, 0.0)
    outcomes = []
    for _ in range(4):
        update = sent(node, 0.0)
        told = answer(update, Status.SEQUENCE_OUT_OF_WINDOW, sequence=(update.sequence + 500) % 0x10000)
        outcomes.append(node.acknowledged(told, 0.0))
    assert outcomes == [Outcome.CORRECTED] * 3 + [Outcome.REFUSED]
    assert node.next_due() == 32.0


def test_a_correction_backwards_is_an_answer_to_something_older() -> None:
    node = registration()
    node.attach(CARE_OF_1, 0.0)
    told = answer(sent(node, 0.0), Status.SEQUENCE_OUT_OF_WINDOW, sequence=90)
    assert node.acknowledged(told, 0.1) is Outcome.IGNORED


@pytest.mark.parametrize("status", [128, 129, 130, 131, 132, 134, 146])
def test_a_refusal_is_accepted_for_a_while(status: int) -> None:
    node = registration()
    node.attach(CARE_OF_1, 0.0)
    assert node.acknowledged(answer(sent(node, 0.0), status), 0.1) is Outcome.REFUSED
    assert not node.bound
    assert node.next_due() == pytest.approx(32.1)


def test_only_answers_to_the_last_update_count() -> None:
    node = registration()
    node.attach(CARE_OF_1, 0.0)
    first = sent(node, 0.0)
    second = sent(node, 1.5)
    assert node.acknowledged(answer(first), 1.6) is Outcome.IGNORED
    assert node.acknowledged(replace(answer(second), source="2001:db8::bad"), 1.6) is Outcome.IGNORED
    assert node.acknowledged(replace(answer(second), home_address="2001:db8:99::101"), 1.6) is Outcome.IGNORED
    assert node.acknowledged(answer(second), 1.6) is Outcome.REGISTERED
    assert node.acknowledged(answer(second), 1.7) is Outcome.IGNORED


def test_answers_have_to_be_authenticated() -> None:
    node = registration(ASSOCIATION)
    node.attach(CARE_OF_1, 0.0)
    acknowledgement = answer(sent(node, 0.0))
    assert node.acknowledged(acknowledgement, 0.1) is Outcome.IGNORED
    forged = signed(acknowledgement, SecurityAssociation(256, b"another key, 16b"))
    assert node.acknowledged(forged, 0.1) is Outcome.IGNORED
    assert node.acknowledged(signed(acknowledgement, ASSOCIATION), 0.1) is Outcome.REGISTERED


def test_coming_home_deregisters() -> None:
    node = registered()
    node.attach(HOME_ADDRESS, 10.0)
    update = sent(node, 10.0)
    assert (update.source, update.care_of_address, update.lifetime) == (HOME_ADDRESS, HOME_ADDRESS, 0)
    assert node.acknowledged(answer(update), 10.1) is Outcome.DEREGISTERED
    assert not node.bound
    assert node.next_due() is None


def test_a_home_agent_that_knows_no_binding_is_as_good() -> None:
    node = registered()
    node.attach(HOME_ADDRESS, 10.0)
    assert node.acknowledged(answer(sent(node, 10.0), Status.NOT_HOME_AGENT), 10.1) is Outcome.DEREGISTERED


def test_a_deregistration_nobody_answers_ends_with_the_binding() -> None:
    node = registered()
    node.attach(HOME_ADDRESS, 50.0)
    sent(node, 50.0)
    assert node.tick(60.0) is None
    assert not node.bound
    assert node.next_due() is None


def test_at_home_without_a_binding_there_is_nothing_to_say() -> None:
    node = registration()
    node.attach(HOME_ADDRESS, 0.0)
    assert node.tick(0.0) is None


def test_without_a_link_nothing_is_sent() -> None:
    node = registered()
    node.detach()
    assert node.tick(50.0) is None


def test_a_released_home_address_is_deregistered_from_the_foreign_link() -> None:
    node = registration()
    node.attach(CARE_OF_1, 0.0)
    node.acknowledged(answer(sent(node, 0.0)), 1.0)
    node.release(2.0)
    update = sent(node, 2.0)
    assert (update.lifetime, update.care_of_address) == (0, CARE_OF_1)
    assert node.acknowledged(answer(update), 3.0) is Outcome.DEREGISTERED
    assert not node.bound
    assert node.next_due() is None


def test_a_home_address_released_before_its_answer_is_deregistered_too() -> None:
    """The home agent may have accepted what nobody has heard of yet."""
    node = registration()
    node.attach(CARE_OF_1, 0.0)
    sent(node, 0.0)
    node.release(1.0)
    assert sent(node, 1.0).lifetime == 0


def test_a_release_that_nobody_answers_ends_with_the_lifetime() -> None:
    node = registration()
    node.attach(CARE_OF_1, 0.0)
    node.acknowledged(answer(sent(node, 0.0)), 1.0)
    node.release(2.0)
    sent(node, 2.0)
    assert node.tick(60.0) is None
    assert not node.bound
    assert node.next_due() is None


def test_it_leaves_a_home_agent_that_says_so_itself_and_authentically_while_away() -> None:
    node = registration(ASSOCIATION)
    node.attach(CARE_OF_1, 0.0)
    message = HomeAgentSwitch(HOME_AGENT, CARE_OF_1, HOME_ADDRESS, ("2001:db8:99::200",))

    def heard(sender: str, association: SecurityAssociation | None) -> HomeAgentSwitch:
        data = home_agent_switch.build(replace(message, source=sender), association)
        return home_agent_switch.parse(wire.parse_packet(data))

    assert not node.must_leave(heard(HOME_AGENT, ASSOCIATION))  # it is not registered yet
    update = sent(node, 0.0)
    assert node.acknowledged(signed(answer(update), ASSOCIATION), 1.0) is Outcome.REGISTERED
    assert not node.must_leave(heard(HOME_AGENT, None))
    assert not node.must_leave(heard(HOME_AGENT, replace(ASSOCIATION, key=bytes(15) + b"x")))
    assert not node.must_leave(heard("2001:db8:99::200", ASSOCIATION))
    assert node.must_leave(heard(HOME_AGENT, ASSOCIATION))
    node.attach(HOME_ADDRESS, 2.0)
    assert not node.must_leave(heard(HOME_AGENT, ASSOCIATION))
