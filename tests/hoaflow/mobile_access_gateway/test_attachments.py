# SPDX-License-Identifier: Apache-2.0
"""What an access gateway does with a mobile node that comes, stays, leaves, returns, or is elsewhere."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from hoaflow.mobile_access_gateway.attachments import (
    DEREGISTRATIONS,
    GROUP_ATTEMPTS,
    Action,
    Advertise,
    Attachments,
    Forget,
    Forward,
    Refresh,
    Refused,
    Register,
    Serve,
    State,
)
from hoaflow.pmipv6.messages import ProxyBindingAcknowledgement, Status
from hoaflow.pmipv6.mobile_nodes import MobileNode
from tests.support.proxy_mobility import LMA, MAG_1, MOBILE_NODE, OTHER_NODE, OTHER_PREFIX, PREFIX

NODE = MobileNode(MOBILE_NODE, (PREFIX,), bytes.fromhex("020000000a01"))
OTHER = MobileNode(OTHER_NODE, (OTHER_PREFIX,), bytes.fromhex("020000000a02"))
HOLD, LIFETIME, GROUP = 2.0, 100, 7


class Gateway:
    """Attachments, and an anchor that accepts what it is told to."""

    def __init__(self) -> None:
        self.attachments = Attachments(LIFETIME, HOLD, GROUP)
        self.now = 0.0

    def come(self, link: str = "a0", link_local: str | None = "fe80::a", solicited: bool = True) -> list[Action]:
        return self._sent(self.attachments.attached(NODE, link, link_local, self.now, solicited))

    def leave(self) -> list[Action]:
        return self.attachments.detached(MOBILE_NODE, self.now)

    def wait(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self._sent(self.attachments.tick(self.now))

    def _sent(self, actions: list[Action]) -> list[Action]:
        """Stamp updates by their sequence numbers."""
        for action in actions:
            if isinstance(action, Register):
                self.attachments.sent(action.attachment.node.identifier, action.attachment.sequence)
            if isinstance(action, Refresh):
                self.attachments.refresh_sent(action.sequence)
        return actions

    def answer(
        self, actions: Sequence[Action], status: int = 0, lifetime: int = 60, stamp: int | None = None
    ) -> list[Action]:
        (sent,) = [action for action in actions if isinstance(action, Register)]
        sequence = sent.attachment.sequence
        message = ProxyBindingAcknowledgement(
            LMA, MAG_1, sequence, status, lifetime, MOBILE_NODE, (PREFIX,), timestamp=stamp or sequence
        )
        return self.attachments.acknowledged(message, self.now)

    def restart_anchor(self) -> list[Action]:
        return self._sent(self.attachments.anchor_restarted(self.now))

    @property
    def state(self) -> State | None:
        found = self.attachments.get(MOBILE_NODE)
        return None if found is None else found.state


def kinds(actions: Sequence[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def serving(gateway: Gateway) -> Gateway:
    gateway.answer(gateway.come())
    assert gateway.state is State.SERVED
    return gateway


def test_a_node_is_served_once_the_anchor_has_accepted(gateway: Gateway) -> None:
    asked = gateway.come()
    assert kinds(asked) == ["Register"]
    (serve,) = gateway.answer(asked)
    assert isinstance(serve, Serve)
    assert (serve.attachment.lifetime, serve.attachment.link_local) == (60, "fe80::a")


def test_an_update_is_repeated_ever_more_seldom(gateway: Gateway) -> None:
    gateway.come()
    waits = []
    for _ in range(8):
        due = gateway.attachments.next_due()
        assert due is not None
        waits.append(due - gateway.now)
        assert kinds(gateway.wait(due - gateway.now)) == ["Register"]
    assert waits == [1, 2, 4, 8, 16, 32, 32, 32]


def test_only_the_answer_to_the_last_update_counts(gateway: Gateway) -> None:
    first = gateway.come()
    second = gateway.wait(1.0)
    assert not gateway.answer(first)
    assert kinds(gateway.answer(second)) == ["Serve"]
    assert not gateway.answer(second)  # a second time


def test_another_solicitation_is_answered_without_the_anchor(serving: Gateway) -> None:
    assert kinds(serving.come()) == ["Advertise"]
    assert kinds(serving.come("a1")) == ["Serve"]  # on another link of ours


def test_a_binding_is_refreshed_at_half_its_lifetime(serving: Gateway) -> None:
    assert not serving.wait(29.0)
    refresh = serving.wait(1.0)
    assert kinds(refresh) == ["Register"]
    assert kinds(serving.answer(refresh)) == ["Advertise"]
    assert not serving.wait(29.0)


def test_a_lifetime_that_ends_without_answers_ends_the_service(serving: Gateway) -> None:
    done: list[Action] = []
    while serving.now < 65:
        done += serving.wait(1.0)
    assert "Hold" in kinds(done)
    assert serving.state is State.REGISTERING


def test_a_refusal_is_reported_and_tried_again(gateway: Gateway) -> None:
    (refused,) = gateway.answer(gateway.come(), status=Status.TIMESTAMP_MISMATCH)
    assert isinstance(refused, Refused)
    assert kinds(gateway.wait(1.0)) == ["Register"]


def test_other_prefixes_than_ours_are_not_taken(gateway: Gateway) -> None:
    (sent,) = gateway.come()
    assert isinstance(sent, Register)
    sequence, others = sent.attachment.sequence, ("2001:db8::/64",)
    answer = ProxyBindingAcknowledgement(LMA, MAG_1, sequence, 0, 60, MOBILE_NODE, others, timestamp=sequence)
    assert kinds(gateway.attachments.acknowledged(answer, 0.0)) == ["Refused"]


def test_an_acceptance_without_a_lifetime_is_none(gateway: Gateway) -> None:
    """It would end at once, and be asked for again as fast as the anchor answers."""
    assert kinds(gateway.answer(gateway.come(), lifetime=0)) == ["Refused"]
    assert gateway.state is State.REGISTERING
    assert not gateway.wait(0.9)


def test_a_recorded_acknowledgement_is_ignored(gateway: Gateway) -> None:
    """Sequence numbers begin anew with each start of the gateway."""
    asked = gateway.come()
    assert not gateway.answer(asked, stamp=77)
    assert gateway.state is State.REGISTERING
    refused = gateway.answer(asked, status=Status.TIMESTAMP_MISMATCH, stamp=77)  # the anchor's clock
    assert kinds(refused) == ["Refused"]
    assert kinds(gateway.answer(asked)) == ["Serve"]  # that was a recording, too


def test_a_node_that_left_is_held_and_then_deregistered(serving: Gateway) -> None:
    assert kinds(serving.leave()) == ["Hold"]
    assert not serving.leave()  # it is known already
    assert not serving.wait(HOLD - 0.1)
    forget, deregister = serving.wait(0.2)
    assert isinstance(forget, Forget)
    assert isinstance(deregister, Register)
    assert deregister.lifetime == 0
    assert kinds(serving.answer([deregister], lifetime=0)) == ["Forget"]
    assert serving.state is None


def test_a_deregistration_that_is_not_answered_is_given_up(serving: Gateway) -> None:
    serving.leave()
    sent = [action for _ in range(40) for action in serving.wait(1.0)]
    assert kinds(sent).count("Register") == DEREGISTRATIONS
    assert serving.state is None


def test_a_node_that_comes_back_in_time_gets_what_was_held(serving: Gateway) -> None:
    serving.leave()
    serving.wait(1.0)
    back = serving.come()
    assert kinds(back) == ["Serve", "Register"]
    assert kinds(serving.answer(back)) == ["Advertise"]


def test_a_node_that_comes_back_before_it_was_registered_is_not_served_yet(gateway: Gateway) -> None:
    gateway.come()
    gateway.leave()
    back = gateway.come()
    assert kinds(back) == ["Register"]
    assert gateway.state is State.REGISTERING
    assert kinds(gateway.answer(back)) == ["Serve"]


@pytest.mark.parametrize(("status", "state"), [(0, State.SERVED), (157, State.FORWARDING)])
def test_a_revocation_that_crosses_the_nodes_return_counts_if_the_anchor_refuses_that(
    serving: Gateway, status: int, state: State
) -> None:
    serving.leave()
    back = serving.come()
    assert not serving.attachments.revoked(MOBILE_NODE, serving.now)
    assert serving.state is State.SERVED
    serving.answer(back, status)
    assert serving.state is state


def test_what_was_held_goes_to_where_the_node_is_now(serving: Gateway) -> None:
    serving.leave()
    (forward,) = serving.attachments.revoked(MOBILE_NODE, serving.now)
    assert isinstance(forward, Forward)
    assert serving.state is State.FORWARDING
    assert not serving.attachments.revoked(MOBILE_NODE, serving.now)
    assert kinds(serving.wait(HOLD)) == ["Forget"]  # nothing is deregistered: it is another gateway's now


def test_a_node_that_moved_unseen_is_served_no_longer(serving: Gateway) -> None:
    assert kinds(serving.attachments.revoked(MOBILE_NODE, serving.now)) == ["Forward"]


def test_a_node_that_returns_from_elsewhere_registers_anew(serving: Gateway) -> None:
    serving.leave()
    serving.attachments.revoked(MOBILE_NODE, serving.now)
    back = serving.come()
    assert kinds(back) == ["Hold", "Register"]
    assert kinds(serving.answer(back)) == ["Serve"]


def test_after_the_anchors_restart_all_nodes_register_anew(serving: Gateway) -> None:
    again = serving.restart_anchor()
    assert kinds(again) == ["Register"]
    assert serving.state is State.SERVED  # packets go on meanwhile
    assert kinds(serving.answer(again)) == ["Advertise"]


def test_a_node_that_is_not_here_can_not_be_revoked(gateway: Gateway) -> None:
    assert not gateway.attachments.revoked(MOBILE_NODE, 0.0)
    gateway.come()
    assert not gateway.attachments.revoked(MOBILE_NODE, 0.0)  # by an older binding, while the new one is asked for


def test_a_link_local_address_is_kept_until_there_is_another(serving: Gateway) -> None:
    (advertise,) = serving.come(link_local=None)
    assert isinstance(advertise, Advertise)
    assert advertise.attachment == replace(advertise.attachment, link_local="fe80::a")


def test_a_neighbour_that_is_served_is_advertised_to_only_once_it_tells_its_address(gateway: Gateway) -> None:
    gateway.answer(gateway.come(link_local=None, solicited=False))
    assert not gateway.come(link_local=None, solicited=False)
    (advertise,) = gateway.come(link_local="fe80::a", solicited=False)
    assert isinstance(advertise, Advertise)
    assert advertise.attachment.link_local == "fe80::a"  # by which its loss is noticed
    assert not gateway.come(link_local="fe80::a", solicited=False)


def answer_each(gateway: Gateway, actions: Sequence[Action], group: int | None = GROUP) -> list[str]:
    """Accept what was registered, as members of a group; return the kinds of what is done then."""
    done: list[Action] = []
    for sent in actions:
        if isinstance(sent, Register):
            node, sequence = sent.attachment.node, sent.attachment.sequence
            message = ProxyBindingAcknowledgement(
                LMA, MAG_1, sequence, 0, 60, node.identifier, node.prefixes, timestamp=sequence, group=group
            )
            done += gateway.attachments.acknowledged(message, gateway.now)
    return kinds(done)


def answer_group(
    gateway: Gateway, sequence: int, status: int = 0, stamp: int | None = None, group: int = GROUP
) -> None:
    """Answer the group's update."""
    stamp = sequence if stamp is None else stamp
    message = ProxyBindingAcknowledgement(LMA, MAG_1, sequence, status, 60, timestamp=stamp, group=group)
    assert not gateway.attachments.acknowledged(message, gateway.now)


@pytest.fixture
def group(gateway: Gateway) -> Gateway:
    """Serve two mobile nodes; the second came 10 s after the first."""
    answer_each(gateway, gateway.come())
    gateway.now += 10
    other = gateway.attachments.attached(OTHER, "a1", "fe80::b", gateway.now, True)
    assert isinstance(other[0], Register)
    gateway.attachments.sent(OTHER_NODE, other[0].attachment.sequence)
    assert answer_each(gateway, other) == ["Serve"]
    return gateway


def refreshed(gateway: Gateway, seconds: float) -> int:
    """Wait until the group is refreshed; return the update's sequence number."""
    (refresh,) = gateway.wait(seconds)
    assert isinstance(refresh, Refresh)
    assert refresh.lifetime == LIFETIME
    return refresh.sequence


def test_one_update_refreshes_all_who_are_told_then(group: Gateway) -> None:
    sequence = refreshed(group, 20)
    assert not group.wait(0.5)  # it may still be answered
    answer_group(group, sequence)
    assert kinds(group.wait(0.5)) == ["Advertise", "Advertise"]
    assert not group.wait(29)
    answer_group(group, refreshed(group, 1))
    assert kinds(group.wait(0.5)) == ["Advertise", "Advertise"]
    assert not group.wait(29), "both were extended"


@pytest.mark.parametrize(("off", "stamp", "other"), [(1, None, 7), (0, 0, 7), (0, None, 8)])
def test_only_the_answer_to_the_groups_last_update_counts(
    group: Gateway, off: int, stamp: int | None, other: int
) -> None:
    sequence = refreshed(group, 20)
    answer_group(group, sequence + off, stamp=stamp, group=other)
    refreshed(group, 1)  # it is not answered


def test_where_the_group_is_refused_each_is_registered_by_itself(group: Gateway) -> None:
    answer_group(group, refreshed(group, 20), status=175)
    single = group.wait(0)
    assert kinds(single) == ["Register", "Register"]
    assert answer_each(group, single) == ["Advertise", "Advertise"]
    refreshed(group, 30)


def test_where_the_groups_update_is_not_answered_each_is_registered_by_itself(group: Gateway) -> None:
    for attempt in range(GROUP_ATTEMPTS):
        refreshed(group, 1 if attempt else 20)
    assert kinds(group.wait(1)) == ["Register"]
    while group.now < 40:
        group.wait(0.5)
    assert {each.attempts for each in group.attachments} >= {1}


def test_an_anchor_that_grants_no_group_is_asked_for_each(gateway: Gateway) -> None:
    answer_each(gateway, gateway.come(), group=None)
    assert kinds(gateway.wait(30)) == ["Register"]


def test_a_member_of_the_group_is_deregistered_until_that_is_answered(group: Gateway) -> None:
    """The group is refreshed, so no lifetime would end it."""
    group.leave()
    sent: list[Action] = []
    for _ in range(20):
        sent += [each for each in group.wait(8) if isinstance(each, Register) and not each.lifetime]
    assert len(sent) > DEREGISTRATIONS
