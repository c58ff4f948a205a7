# SPDX-License-Identifier: Apache-2.0
"""The anchor's binding cache, by RFC 5213: who may register what, when, and who may end it."""

from dataclasses import replace

import pytest

from hoaflow.local_mobility_anchor.cache import (
    MIN_DELAY_BEFORE_DELETE,
    Acknowledge,
    Action,
    BindingCache,
    Install,
    Policy,
    Remove,
    Revoke,
    State,
)
from hoaflow.pmipv6.messages import ProxyBindingUpdate, Status, timestamp_of
from hoaflow.pmipv6.mobile_nodes import MobileNode
from tests.support.proxy_mobility import LMA, MAG_1, MAG_2, MOBILE_NODE, OTHER_NODE, OTHER_PREFIX, PREFIX

CLOCK = 1_800_000_000.0
LINK_LAYER = bytes.fromhex("020000000a01")
NODE = MobileNode(MOBILE_NODE, (PREFIX, OTHER_PREFIX), LINK_LAYER)
OTHER = MobileNode(OTHER_NODE, ("2001:db8:f1:9::/64",), LINK_LAYER)
UPDATE = ProxyBindingUpdate(
    MAG_1,
    LMA,
    sequence=7,
    lifetime=600,
    identifier=MOBILE_NODE,
    prefixes=("::/0",),
    handoff=4,
    access_technology=3,
    link_layer=LINK_LAYER,
    timestamp=timestamp_of(CLOCK),
)


GROUPED, OTHER_GROUPED = replace(UPDATE, group=7), replace(UPDATE, group=7, identifier=OTHER_NODE)
GROUP = ProxyBindingUpdate(MAG_1, LMA, sequence=9, lifetime=600, group=7)

# What is due is late by such a fraction of a second at the most.
STEP = 0.125


class Anchor:
    """A cache with a clock that runs with its time; each update is stamped when it is sent."""

    def __init__(self) -> None:
        self.cache = BindingCache(Policy(LMA, {MOBILE_NODE: NODE, OTHER_NODE: OTHER}, 100, 0.3, "fe80::1"))
        self.now = 0.0

    def update(self, update: ProxyBindingUpdate = UPDATE, stamped: bool = True) -> list[Action]:
        self.now += STEP
        clock = CLOCK + self.now
        update = replace(update, timestamp=timestamp_of(clock)) if stamped else update
        return self.cache.update(update, self.now, clock)

    def wait(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.cache.tick(self.now)

    def removed(self) -> None:
        self.cache.removed(MOBILE_NODE, self.now)


def answer(actions: list[Action]) -> Acknowledge:
    (found,) = [action for action in actions if isinstance(action, Acknowledge)]
    return found


def statuses(actions: list[Action]) -> list[int]:
    return [action.status for action in actions if isinstance(action, Acknowledge)]


@pytest.fixture
def anchor() -> Anchor:
    return Anchor()


def test_a_registration_gets_all_prefixes_and_at_most_the_longest_lifetime(anchor: Anchor) -> None:
    install, acknowledge = anchor.update()
    assert isinstance(install, Install)
    assert (install.previous, install.binding.gateway) == (None, MAG_1)
    assert isinstance(acknowledge, Acknowledge)
    assert (acknowledge.status, acknowledge.lifetime) == (Status.ACCEPTED, 100)
    assert acknowledge.prefixes == (PREFIX, OTHER_PREFIX)
    assert acknowledge.timestamp == install_stamp(anchor)


def install_stamp(anchor: Anchor) -> int:
    return timestamp_of(CLOCK + anchor.now)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"identifier": ""}, Status.MISSING_IDENTIFIER),
        ({"prefixes": ()}, Status.MISSING_HOME_NETWORK_PREFIX),
        ({"handoff": None}, Status.MISSING_HANDOFF_INDICATOR),
        ({"access_technology": None}, Status.MISSING_ACCESS_TECHNOLOGY_TYPE),
        ({"identifier": "stranger"}, Status.NOT_LMA_FOR_THIS_MOBILE_NODE),
        ({"link_layer": b"other!"}, Status.NOT_LMA_FOR_THIS_MOBILE_NODE),
        ({"prefixes": ("2001:db8:f1:3::/64",)}, Status.NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX),
        ({"prefixes": (PREFIX,)}, Status.PREFIX_SET_DOES_NOT_MATCH),
    ],
)
def test_what_is_wrong_is_refused_with_its_status(anchor: Anchor, change: dict[str, object], status: Status) -> None:
    assert statuses(anchor.update(replace(UPDATE, **change))) == [status]  # type: ignore[arg-type]
    assert not list(anchor.cache)


@pytest.mark.parametrize("off", [-0.31, 0.31, None])
def test_a_timestamp_outside_the_window_gets_the_anchors_clock(anchor: Anchor, off: float | None) -> None:
    stamp = None if off is None else timestamp_of(CLOCK + STEP + off)
    refused = answer(anchor.update(replace(UPDATE, timestamp=stamp), stamped=False))
    assert (refused.status, refused.timestamp) == (Status.TIMESTAMP_MISMATCH, timestamp_of(CLOCK + STEP))


def test_an_update_is_taken_once(anchor: Anchor) -> None:
    update = replace(UPDATE, timestamp=timestamp_of(CLOCK))
    assert statuses(anchor.update(update, stamped=False)) == [Status.ACCEPTED]
    assert statuses(anchor.update(update, stamped=False)) == [Status.TIMESTAMP_LOWER_THAN_PREVIOUS]


def test_a_recorded_update_is_refused_after_its_binding_has_gone(anchor: Anchor) -> None:
    recorded = replace(UPDATE, timestamp=timestamp_of(CLOCK))
    anchor.update(recorded, stamped=False)
    anchor.cache.gateway_restarted(MAG_1, seen=1.0, now=anchor.now)
    anchor.removed()
    assert not list(anchor.cache)
    assert statuses(anchor.update(recorded, stamped=False)) == [Status.TIMESTAMP_LOWER_THAN_PREVIOUS]


def test_a_handover_is_ordered_by_timestamps_and_revokes_at_the_former_gateway(anchor: Anchor) -> None:
    anchor.update()
    install, _, revoke = anchor.update(replace(UPDATE, source=MAG_2, sequence=0))
    assert isinstance(install, Install)
    assert install.previous is not None
    assert (install.previous.gateway, install.binding.gateway) == (MAG_1, MAG_2)
    assert isinstance(revoke, Revoke)
    assert revoke.gateway == MAG_1


@pytest.mark.parametrize("lifetime", [600, 0])
def test_a_former_gateways_update_that_arrives_after_its_successors_changes_nothing(
    anchor: Anchor, lifetime: int
) -> None:
    anchor.update()
    late = replace(UPDATE, lifetime=lifetime, timestamp=timestamp_of(CLOCK + anchor.now + STEP / 2))
    anchor.update(replace(UPDATE, source=MAG_2))
    (only,) = anchor.update(late, stamped=False)
    assert statuses([only]) == [Status.TIMESTAMP_LOWER_THAN_PREVIOUS]
    assert [(binding.gateway, binding.state) for binding in anchor.cache] == [(MAG_2, State.REGISTERED)]


def test_a_refresh_changes_nothing_but_the_lifetime(anchor: Anchor) -> None:
    anchor.update()
    anchor.wait(50.0)
    install, acknowledge = anchor.update(replace(UPDATE, prefixes=(OTHER_PREFIX, PREFIX)))
    assert isinstance(install, Install)
    assert install.previous is not None
    assert install.binding.due == pytest.approx(anchor.now + 100)
    assert isinstance(acknowledge, Acknowledge)


def test_a_deregistered_entry_is_kept_for_ten_seconds_without_its_routes(anchor: Anchor) -> None:
    anchor.update()
    remove, acknowledge = anchor.update(replace(UPDATE, lifetime=0))
    assert isinstance(remove, Remove)
    assert isinstance(acknowledge, Acknowledge)
    assert acknowledge.status is Status.ACCEPTED
    anchor.removed()
    assert [binding.state for binding in anchor.cache] == [State.DEREGISTERED]
    assert not anchor.wait(MIN_DELAY_BEFORE_DELETE - 1)
    (gone,) = anchor.wait(1.1)
    assert isinstance(gone, Remove)
    anchor.removed()
    assert not list(anchor.cache)


def test_a_node_that_registers_elsewhere_meanwhile_is_served_there(anchor: Anchor) -> None:
    anchor.update()
    anchor.update(replace(UPDATE, lifetime=0))
    anchor.removed()
    install, *_ = anchor.update(replace(UPDATE, source=MAG_2))
    assert isinstance(install, Install)
    assert install.previous is None  # nothing of it is in the kernel
    assert not anchor.wait(MIN_DELAY_BEFORE_DELETE + 1)
    assert [binding.gateway for binding in anchor.cache] == [MAG_2]


def test_only_the_serving_gateway_may_deregister(anchor: Anchor) -> None:
    anchor.update()
    anchor.update(replace(UPDATE, source=MAG_2))
    (only,) = anchor.update(replace(UPDATE, lifetime=0))
    assert isinstance(only, Acknowledge)
    assert only.status is Status.ACCEPTED
    assert [(binding.gateway, binding.state) for binding in anchor.cache] == [(MAG_2, State.REGISTERED)]


def test_a_lifetime_ends_a_binding(anchor: Anchor) -> None:
    anchor.update()
    assert not anchor.wait(99.0)
    (remove,) = anchor.wait(1.0)
    assert isinstance(remove, Remove)
    assert remove.reason == "expired"
    anchor.removed()
    assert not list(anchor.cache)


def test_a_removal_that_the_kernel_refuses_is_tried_again(anchor: Anchor) -> None:
    anchor.update()
    anchor.wait(100.0)
    (again,) = anchor.wait(1.0)
    assert isinstance(again, Remove)


def test_a_gateways_restart_ends_what_it_had_registered_before(anchor: Anchor) -> None:
    anchor.update()
    assert not anchor.cache.gateway_restarted(MAG_2, seen=9.0, now=9.0)
    assert not anchor.cache.gateway_restarted(MAG_1, seen=0.0, now=9.0)  # it registered since
    (remove,) = anchor.cache.gateway_restarted(MAG_1, seen=9.0, now=9.0)
    assert isinstance(remove, Remove)
    assert remove.reason == "gateway-restarted"


def test_a_gateway_ends_all_that_it_had_registered_when_it_said_so(anchor: Anchor) -> None:
    anchor.update()
    stamp = install_stamp(anchor)
    assert not anchor.cache.gateway_revoked(MAG_2, stamp + 1, anchor.now)
    assert not anchor.cache.gateway_revoked(MAG_1, stamp, anchor.now)  # a recording: it has registered since
    (remove,) = anchor.cache.gateway_revoked(MAG_1, stamp + 1, anchor.now)
    assert isinstance(remove, Remove)
    assert remove.reason == "revoked"
    assert not anchor.cache.gateway_revoked(MAG_1, None, anchor.now)  # it is about to go
    anchor.removed()
    anchor.update()
    (remove,) = anchor.cache.gateway_revoked(MAG_1, None, anchor.now)
    assert isinstance(remove, Remove)


def left(anchor: Anchor) -> dict[str, float]:
    """Return how long registrations last, by mobile node."""
    return {each.node.identifier: each.due - anchor.now for each in anchor.cache if each.state is State.REGISTERED}


def test_one_update_extends_a_group_and_touches_nothing_in_the_kernel(anchor: Anchor) -> None:
    anchor.update(GROUPED)
    anchor.update(OTHER_GROUPED)
    anchor.wait(50.0)
    (only,) = anchor.update(GROUP)
    assert isinstance(only, Acknowledge)
    assert (only.status, only.lifetime) == (Status.ACCEPTED, 100)
    assert left(anchor) == {MOBILE_NODE: 100, OTHER_NODE: 100}


@pytest.mark.parametrize(
    "other",
    [
        replace(OTHER_GROUPED, source=MAG_2),
        replace(OTHER_GROUPED, group=8),
        replace(OTHER_GROUPED, group=None),
    ],
)
def test_a_groups_update_is_not_for_others(anchor: Anchor, other: ProxyBindingUpdate) -> None:
    for lifetime, expected in ((600, {MOBILE_NODE: 100, OTHER_NODE: 75 - STEP}), (0, {OTHER_NODE: 50 - 2 * STEP})):
        anchor.update(GROUPED)
        if lifetime:
            anchor.update(other)
        anchor.wait(25.0 - STEP)
        assert statuses(anchor.update(replace(GROUP, lifetime=lifetime))) == [Status.ACCEPTED]
        assert left(anchor) == pytest.approx(expected, abs=STEP)


def test_a_groups_update_is_not_for_what_was_registered_after_it_was_sent(anchor: Anchor) -> None:
    anchor.update(GROUPED)
    sent = replace(GROUP, lifetime=0, timestamp=timestamp_of(CLOCK + anchor.now + STEP / 2))
    anchor.update(OTHER_GROUPED)
    assert statuses(anchor.update(sent, stamped=False)) == [Status.ACCEPTED]
    assert left(anchor).keys() == {OTHER_NODE}


def test_one_update_ends_a_group_and_its_entries_are_kept_for_a_while(anchor: Anchor) -> None:
    anchor.update(GROUPED)
    anchor.update(OTHER_GROUPED)
    *removes, acknowledge = anchor.update(replace(GROUP, lifetime=0))
    assert [(type(each), each.binding.node) for each in removes if isinstance(each, Remove)] == [
        (Remove, NODE),
        (Remove, OTHER),
    ]
    assert isinstance(acknowledge, Acknowledge)
    assert [binding.state for binding in anchor.cache] == [State.DEREGISTERED] * 2


def test_an_unknown_group_is_refused(anchor: Anchor) -> None:
    anchor.update()
    assert statuses(anchor.update(GROUP)) == [Status.INVALID_MOBILE_NODE_GROUP_IDENTIFIER]
    late = replace(GROUP, timestamp=timestamp_of(CLOCK - 1))
    assert statuses(anchor.update(late, stamped=False)) == [Status.TIMESTAMP_MISMATCH]


def test_a_group_that_was_extended_still_ends_with_its_gateway(anchor: Anchor) -> None:
    """What a gateway had registered before it was last seen is gone when it restarts, whatever it extended since."""
    anchor.update(GROUPED)
    anchor.wait(10.0)
    anchor.update(GROUP)
    (remove,) = anchor.cache.gateway_restarted(MAG_1, seen=5.0, now=anchor.now)
    assert isinstance(remove, Remove)


def test_a_gateway_that_asks_for_a_link_local_address_gets_the_one_of_all(anchor: Anchor) -> None:
    assert answer(anchor.update(replace(UPDATE, link_local="::"))).link_local == "fe80::1"
    assert answer(anchor.update()).link_local is None
