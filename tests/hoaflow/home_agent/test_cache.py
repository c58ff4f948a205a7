# SPDX-License-Identifier: Apache-2.0
"""The binding cache: statuses, sequence numbers, lifetimes, duplicate address detection."""

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hoaflow.home_agent.cache import Action, BindingCache, Discard, Install, Remove, StartDad, State
from hoaflow.mobility.messages import BindingUpdate, Status
from hoaflow.tunnel.rate_limit import RateLimit
from tests.support.binding_cache import (
    CARE_OF_1,
    CARE_OF_2,
    HOME_ADDRESS,
    HOME_AGENT,
    POLICY,
    SECURE,
    answer,
    going_home,
    only,
    registered,
    signed,
    update,
)


def test_the_first_answer_comes_after_duplicate_address_detection() -> None:
    cache = BindingCache(POLICY)
    (start,) = cache.update(update(sequence=7), 10.0)
    assert isinstance(start, StartDad)
    assert only(cache).state is State.DAD
    assert cache.tick(10.9) == []
    (install,) = cache.tick(11.0)
    assert isinstance(install, Install)
    assert answer([install]) == (Status.ACCEPTED, 7, 60)
    assert (only(cache).state, only(cache).due) == (State.REGISTERED, 71.0)


def test_a_repeated_update_during_detection_neither_restarts_it_nor_is_lost() -> None:
    cache = BindingCache(POLICY)
    cache.update(update(sequence=7), 10.0)
    assert cache.update(update(CARE_OF_2, sequence=8), 10.8) == []
    (install,) = cache.tick(11.0)
    assert isinstance(install, Install)
    assert install.binding.care_of_address == CARE_OF_2
    assert answer([install])[1] == 8


def test_a_duplicate_address_is_refused() -> None:
    cache = BindingCache(POLICY)
    cache.update(update(), 0.0)
    assert cache.duplicate_found("2001:db8:99::101") == []
    assert answer(cache.duplicate_found(HOME_ADDRESS)) == (Status.DUPLICATE_ADDRESS, 1, 0)
    assert len(cache) == 0
    assert cache.tick(2.0) == []


def test_nobody_takes_a_registered_address_away_by_claiming_it() -> None:
    cache = registered()
    assert cache.duplicate_found(HOME_ADDRESS) == []
    assert only(cache).state is State.REGISTERED


def test_flag_l_has_the_link_local_address_defended_too() -> None:
    cache = BindingCache(POLICY)
    cache.update(update(link_local=True), 0.0)
    assert only(cache).defended == (HOME_ADDRESS, "fe80::100")
    assert answer(cache.duplicate_found("fe80::100"))[0] is Status.DUPLICATE_ADDRESS


def test_a_handover_needs_no_detection() -> None:
    cache = registered()
    (install,) = cache.update(update(CARE_OF_2, 2), 5.0)
    assert isinstance(install, Install)
    assert install.previous is not None
    assert (install.previous.care_of_address, install.binding.care_of_address) == (CARE_OF_1, CARE_OF_2)
    assert answer([install]) == (Status.ACCEPTED, 2, 60)


@pytest.mark.parametrize(("asked", "granted"), [(4, 4), (60, 60), (96, 96), (100, 100), (104, 100), (262140, 100)])
def test_no_more_is_granted_than_asked_for_or_allowed(asked: int, granted: int) -> None:
    cache = registered(first=update(lifetime=asked))
    assert only(cache).lifetime == granted


def test_granted_lifetimes_are_whole_units() -> None:
    cache = registered(replace(POLICY, max_lifetime=61), update(lifetime=120))
    assert only(cache).lifetime == 60


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (update(home="2001:db8:98::100"), Status.NOT_HOME_SUBNET),
        (update(HOME_ADDRESS, lifetime=0), Status.NOT_HOME_AGENT),
        (update(lifetime=0), Status.NOT_HOME_AGENT),
        (update(home=HOME_AGENT), Status.ADMINISTRATIVELY_PROHIBITED),
        (update(home="2001:db8:99::"), Status.ADMINISTRATIVELY_PROHIBITED),
        (update(home="2001:db8:99:0:fdff:ffff:ffff:fffe"), Status.ADMINISTRATIVELY_PROHIBITED),
        (update(care_of_address="2001:db8:99::101"), Status.ADMINISTRATIVELY_PROHIBITED),
        (update(care_of_address=HOME_AGENT), Status.ADMINISTRATIVELY_PROHIBITED),
    ],
)
def test_refusals(refused: BindingUpdate, status: Status) -> None:
    cache = BindingCache(POLICY)
    assert answer(cache.update(refused, 0.0)) == (status, 1, 0)
    assert len(cache) == 0


@pytest.mark.parametrize("moved", [CARE_OF_1, CARE_OF_2])
def test_a_home_registration_stays_one(moved: str) -> None:
    cache = registered()
    correspondents = update(moved, 2, home_registration=False)
    assert answer(cache.update(correspondents, 5.0)) == (Status.REGISTRATION_TYPE_CHANGE, 2, 0)
    assert (only(cache).care_of_address, only(cache).update.home_registration) == (CARE_OF_1, True)


def test_no_more_bindings_than_allowed() -> None:
    cache = BindingCache(POLICY)
    for number in (1, 2):
        cache.update(update(home=f"2001:db8:99::{number}00"), 0.0)
    assert answer(cache.update(update(home="2001:db8:99::300"), 0.0))[0] is Status.INSUFFICIENT_RESOURCES
    # One that is there already may move.
    assert cache.update(update(CARE_OF_2, 2, home="2001:db8:99::100"), 0.0) == []


@pytest.mark.parametrize(
    "dropped",
    [
        update(home_registration=False),
        update(source="ff02::1"),
        update(source="fe80::1"),
        update(source="::"),
        update(home="ff02::1"),
        update(home="fe80::1"),
        update(care_of_address="ff02::1"),
        update(care_of_address="fe80::1"),
        update(care_of_address="::1"),
        update(care_of_address="::"),
    ],
)
def test_what_is_discarded_without_a_word(dropped: BindingUpdate) -> None:
    cache = BindingCache(POLICY)
    (action,) = cache.update(dropped, 0.0)
    assert isinstance(action, Discard)
    assert len(cache) == 0


def test_an_old_sequence_number_is_refused_with_the_last_accepted_one() -> None:
    cache = registered(first=update(sequence=100))
    for old in (100, 99, 0, 65535, 100 + 0x8000 - 0x10000 + 0x10000):
        assert answer(cache.update(update(CARE_OF_2, old), 5.0)) == (Status.SEQUENCE_OUT_OF_WINDOW, 100, 0)
    assert only(cache).care_of_address == CARE_OF_1
    assert answer(cache.update(update(CARE_OF_2, 100 + 0x7FFF), 5.0))[0] is Status.ACCEPTED


@pytest.mark.parametrize("care_of", [CARE_OF_1, HOME_ADDRESS], ids=["from-abroad", "from-home"])
def test_deregistration_leaves_the_kernel_before_it_is_acknowledged(care_of: str) -> None:
    cache = registered()
    remove, acknowledge = cache.update(update(care_of, 2, lifetime=0), 5.0)
    assert isinstance(remove, Remove)
    assert answer([acknowledge]) == (Status.ACCEPTED, 2, 0)
    assert only(cache).state is State.DYING
    cache.removed(HOME_ADDRESS)
    assert len(cache) == 0


def test_the_home_address_as_care_of_address_deregisters_whatever_the_lifetime() -> None:
    cache = registered()
    remove, _ = cache.update(update(HOME_ADDRESS, 2, lifetime=60), 5.0)
    assert isinstance(remove, Remove)


def test_after_a_deregistration_any_sequence_number_starts_anew() -> None:
    cache = registered(first=update(sequence=42002))
    cache.update(going_home(42003), 5.0)
    cache.removed(HOME_ADDRESS)
    (start,) = cache.update(update(sequence=5078), 6.0)
    assert isinstance(start, StartDad)


def test_expiry() -> None:
    cache = registered()
    assert cache.next_due() == 61.0
    assert cache.tick(60.9) == []
    (remove,) = cache.tick(61.0)
    assert isinstance(remove, Remove)
    assert remove.reason == "expired"


def test_a_removal_that_failed_is_tried_again() -> None:
    cache = registered()
    cache.tick(61.0)
    assert cache.next_due() == 62.0
    (again,) = cache.tick(62.0)
    assert isinstance(again, Remove)
    cache.removed(HOME_ADDRESS)
    assert cache.tick(63.0) == []
    assert cache.next_due() is None


def test_a_binding_that_the_kernel_refuses_is_refused() -> None:
    cache = BindingCache(POLICY)
    cache.update(update(), 0.0)
    cache.tick(1.0)
    remove, acknowledge = cache.install_failed(HOME_ADDRESS, 1.0)
    assert isinstance(remove, Remove)
    assert answer([acknowledge]) == (Status.REASON_UNSPECIFIED, 1, 0)


def test_a_refresh_extends_the_lifetime() -> None:
    cache = registered()
    cache.update(update(sequence=2), 40.0)
    assert only(cache).due == 100.0


def test_no_acknowledgement_is_sent_unless_asked_for_or_refused() -> None:
    cache = registered()
    (install,) = cache.update(update(CARE_OF_2, 2, acknowledge=False), 5.0)
    assert isinstance(install, Install)
    assert install.acknowledge is None
    assert answer(cache.update(update(CARE_OF_2, 2, acknowledge=False), 5.0))[0] is Status.SEQUENCE_OUT_OF_WINDOW


def test_a_restored_binding_lasts_as_long_as_is_left_and_keeps_its_number() -> None:
    binding = only(registered(SECURE, update(sequence=10)))
    after = BindingCache(SECURE, {HOME_ADDRESS: 10})
    (install,) = after.restore(binding.update, binding.lifetime, 30.0, 500.0)
    assert isinstance(install, Install)
    assert only(after).due == 530.0
    assert answer(after.update(signed(update(CARE_OF_2, 10)), 501.0))[0] is Status.SEQUENCE_OUT_OF_WINDOW
    assert BindingCache(replace(SECURE, keys={})).restore(binding.update, 60, 30.0, 0.0) == []


class AgainstAModel(RuleBasedStateMachine):
    """Updates in any order and at any time, with the kernel failing now and then: what must always hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.kernel: dict[str, str] = {}
        self.cache = BindingCache(POLICY)
        self.accepted: dict[str, int] = {}

    @rule(
        home=st.sampled_from(["2001:db8:99::100", "2001:db8:99::200", "2001:db8:99::300"]),
        care_of=st.sampled_from([CARE_OF_1, CARE_OF_2, "home"]),
        sequence=st.integers(0, 5),
        lifetime=st.sampled_from([0, 4, 60]),
        fails=st.booleans(),
    )
    def send(self, home: str, care_of: str, sequence: int, lifetime: int, fails: bool) -> None:
        self.do(
            self.cache.update(
                update(home if care_of == "home" else care_of, sequence, home, lifetime=lifetime), self.now
            ),
            fails,
        )

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 61.0]), fails=st.booleans())
    def wait(self, seconds: float, fails: bool) -> None:
        self.now += seconds
        self.do(self.cache.tick(self.now), fails)

    @rule(address=st.sampled_from(["2001:db8:99::100", "2001:db8:99::200"]))
    def claim(self, address: str) -> None:
        self.do(self.cache.duplicate_found(address), False)

    def do(self, actions: list[Action], fails: bool) -> None:
        for action in actions:
            if isinstance(action, Install):
                if fails:
                    self.do(self.cache.install_failed(action.binding.home_address, self.now), False)
                    continue
                self.kernel[action.binding.home_address] = action.binding.care_of_address
            elif isinstance(action, Remove) and not fails:
                self.kernel.pop(action.binding.home_address, None)
                self.cache.removed(action.binding.home_address)

    @invariant()
    def kernel_holds_what_is_registered(self) -> None:
        registered = {b.home_address: b.care_of_address for b in self.cache if b.state is State.REGISTERED}
        assert registered.items() <= self.kernel.items()
        left_over = self.kernel.keys() - registered.keys()
        # What nobody is registered for any more is on its way out, or waits for the answer to a new registration.
        assert left_over <= {b.home_address for b in self.cache if b.state is not State.REGISTERED}

    @invariant()
    def never_more_than_allowed(self) -> None:
        assert len(self.cache) <= POLICY.max_bindings


TestAgainstAModel = AgainstAModel.TestCase


def test_rate_limit() -> None:
    limit = RateLimit(rate=10.0, burst=2)
    assert [limit.take(5.0), limit.take(5.0), limit.take(5.0)] == [True, True, False]
    assert [limit.take(5.11), limit.take(5.11)] == [True, False]
