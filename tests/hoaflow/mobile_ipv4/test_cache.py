# SPDX-License-Identifier: Apache-2.0
"""What a home agent of Mobile IPv4 answers, and which bindings it then has."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from hoaflow.mobile_ipv4 import wire
from hoaflow.mobile_ipv4.authentication import SecurityAssociation
from hoaflow.mobile_ipv4.cache import (
    SHOWN_SECONDS,
    Action,
    BindingCache,
    Discard,
    Install,
    Policy,
    Remove,
    Reply,
    State,
)
from hoaflow.mobile_ipv4.messages import FOREVER, Code, Flag, RegistrationRequest, identification_at, seconds_from
from hoaflow.mobile_ipv4.terminal import render

HOA, OTHER, HA, COA, COA_2 = "10.99.0.100", "10.99.0.101", "10.99.0.1", "10.2.0.2", "10.3.0.2"
ASSOCIATION = SecurityAssociation(256, b"sixteen octets!!")
KEYS = {HOA: ASSOCIATION, OTHER: ASSOCIATION}
CLOCK = 1_800_000_000.0


def policy(max_lifetime: int = 3600, max_bindings: int = 2) -> Policy:
    return Policy(HA, IPv4Network("10.99.0.0/24"), max_lifetime, max_bindings, KEYS)


def message(at: float = CLOCK + 1, **facts: object) -> RegistrationRequest:
    """Return a request as it comes: signed at a time, from a care-of address."""
    plain = RegistrationRequest(COA, 434, HOA, HA, COA, 60, identification_at(at), Flag.DECAPSULATION)
    changed = replace(plain, **facts)  # type: ignore[arg-type]
    return wire.parse_request(ASSOCIATION.sign(wire.request(changed)), changed.source, changed.port)


def answers(actions: list[Action]) -> list[int]:
    """Return the codes of the replies, also of those that wait for the kernel."""
    replies = [action.reply if isinstance(action, Install) else action for action in actions]
    return [reply.code for reply in replies if isinstance(reply, Reply)]


@pytest.fixture
def cache() -> BindingCache:
    return BindingCache(policy(), CLOCK)


def ask(cache: BindingCache, request: RegistrationRequest, clock: float = CLOCK + 1) -> list[Action]:
    return cache.request(request, 100.0, clock)


def test_a_mobile_node_registers_moves_and_comes_home(cache: BindingCache) -> None:
    (first,) = ask(cache, message())
    assert isinstance(first, Install)
    assert (first.binding.care_of_address, first.previous, first.reply.lifetime) == (COA, None, 60)
    (moved,) = ask(cache, message(CLOCK + 2, care_of_address=COA_2))
    assert isinstance(moved, Install)
    assert (moved.binding.care_of_address, moved.previous) == (COA_2, first.binding)
    removal, reply = ask(cache, message(CLOCK + 3, care_of_address=HOA, lifetime=0))
    assert isinstance(removal, Remove)
    assert answers([reply]) == [Code.ACCEPTED]
    cache.removed(HOA, 101.0)
    shown = cache.get(HOA)
    assert shown is not None
    assert render(shown, HA, 101.0, fancy=False).startswith(
        f"hoa {HOA} status deregistered\n coa {COA_2} flags --D---\n"
    )
    assert cache.tick(101.0 + SHOWN_SECONDS) == []
    assert cache.get(HOA) is None


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"home_agent": "10.99.0.2"}, Code.UNKNOWN_HOME_AGENT),
        ({"flags": Flag.MINIMAL}, Code.ENCAPSULATION_UNAVAILABLE),
        ({"flags": Flag.GRE}, Code.ENCAPSULATION_UNAVAILABLE),
        ({"care_of_address": OTHER}, Code.ADMINISTRATIVELY_PROHIBITED),
        ({"care_of_address": "224.0.0.1"}, Code.ADMINISTRATIVELY_PROHIBITED),
        ({"care_of_address": "127.0.0.1"}, Code.ADMINISTRATIVELY_PROHIBITED),
        ({"flags": Flag.SIMULTANEOUS}, Code.ACCEPTED_WITHOUT_SIMULTANEOUS),
        ({"flags": Flag.BROADCASTS | Flag.REVERSE_TUNNEL}, Code.ACCEPTED),
        ({"source": "10.2.0.1", "port": 5000}, Code.ACCEPTED),
        ({"lifetime": 0, "care_of_address": COA_2}, Code.ACCEPTED),
    ],
)
def test_each_request_is_answered_with_its_code(cache: BindingCache, facts: dict[str, object], code: Code) -> None:
    assert answers(ask(cache, message(**facts))) == [code]  # type: ignore[arg-type]
    assert (cache.get(HOA) is not None) == (code in (0, 1) and facts.get("lifetime") != 0)


def test_a_request_without_the_right_authenticator_is_refused_and_changes_nothing(cache: BindingCache) -> None:
    ask(cache, message())
    forged = SecurityAssociation(256, b"another key of 16").sign(wire.request(message(CLOCK + 2, lifetime=0)))
    assert answers(ask(cache, wire.parse_request(forged, COA, 434))) == [Code.AUTHENTICATION_FAILED]
    assert answers(ask(cache, wire.without_authentication(message(CLOCK + 2)))) == [Code.AUTHENTICATION_FAILED]
    # Nor does it use up the identification.
    assert answers(ask(cache, message(CLOCK + 2))) == [Code.ACCEPTED]
    (action,) = ask(cache, message(home_address="10.99.0.7"))
    assert isinstance(action, Discard)


@pytest.mark.parametrize("late", [-7.5, 7.5, -3600, 2.0**31])
def test_a_clock_that_is_wrong_is_told_the_time(cache: BindingCache, late: float) -> None:
    request = message(CLOCK + 10 + late)
    (reply,) = ask(cache, request, CLOCK + 10)
    assert isinstance(reply, Reply)
    assert (reply.code, reply.identification % 2**32) == (Code.IDENTIFICATION_MISMATCH, request.identification % 2**32)
    assert abs(seconds_from(identification_at(CLOCK + 10), reply.identification)) < 1
    assert cache.get(HOA) is None


def test_a_replayed_request_changes_nothing_also_after_a_restart(cache: BindingCache) -> None:
    away = message(CLOCK + 1)
    assert answers(ask(cache, away)) == [Code.ACCEPTED]
    ask(cache, message(CLOCK + 2, lifetime=0))
    cache.removed(HOA, 101.0)
    assert answers(ask(cache, away)) == [Code.IDENTIFICATION_MISMATCH]
    restarted = BindingCache(policy(), CLOCK + 3)
    assert answers(ask(restarted, away, CLOCK + 3)) == [Code.IDENTIFICATION_MISMATCH]
    assert answers(ask(restarted, message(CLOCK + 3.5), CLOCK + 3.5)) == [Code.ACCEPTED]


def test_lifetimes_are_shortened_and_end_or_do_not() -> None:
    cache = BindingCache(policy(max_lifetime=FOREVER), CLOCK)
    (forever,) = ask(cache, message(lifetime=FOREVER))
    assert isinstance(forever, Install)
    assert (forever.binding.endless, forever.reply.lifetime) == (True, FOREVER)
    assert " lifetime - / 65535 seq " in render(forever.binding, HA, 101.0, fancy=False)
    ask(cache, message(home_address=OTHER))
    assert cache.tick(159.0) == []
    (expired,) = cache.tick(160.0)
    assert isinstance(expired, Remove)
    assert (expired.binding.home_address, expired.reason) == (OTHER, "expired")
    (again,) = cache.tick(162.0)  # the kernel has refused it
    assert isinstance(again, Remove)
    (shortened,) = ask(BindingCache(policy(max_lifetime=30), CLOCK), message(lifetime=FOREVER))
    assert isinstance(shortened, Install)
    assert (shortened.reply.lifetime, shortened.binding.due) == (30, 130.0)


def test_what_does_not_fit_or_the_kernel_refuses_is_refused() -> None:
    cache = BindingCache(policy(max_bindings=1), CLOCK)
    ask(cache, message())
    assert answers(ask(cache, message(home_address=OTHER))) == [Code.INSUFFICIENT_RESOURCES]
    removal, reply = cache.install_failed(HOA, 100.0)
    assert isinstance(removal, Remove)
    assert removal.binding.state is State.DYING
    assert answers([reply]) == [Code.INSUFFICIENT_RESOURCES]


def test_a_deregistration_after_a_restart_is_shown(cache: BindingCache) -> None:
    """Whoever follows the cache, and still has the binding of before, learns by this that it has ended."""
    assert answers(ask(cache, message(lifetime=0, care_of_address=HOA))) == [Code.ACCEPTED]
    shown = cache.get(HOA)
    assert shown is not None
    assert shown.state is State.DEREGISTERED
