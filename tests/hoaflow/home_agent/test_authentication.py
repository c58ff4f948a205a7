# SPDX-License-Identifier: Apache-2.0
"""The binding cache with authentication: what is discarded, and replays."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from hoaflow.home_agent.cache import BindingCache, Discard, Install, StartDad
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.messages import BindingUpdate, Status
from tests.support.binding_cache import (
    ASSOCIATION,
    CARE_OF_1,
    CARE_OF_2,
    HOME_ADDRESS,
    POLICY,
    SECURE,
    answer,
    going_home,
    only,
    registered,
    signed,
    update,
)

# --- with authentication


def test_an_authenticated_update_registers_and_its_answer_is_authenticated() -> None:
    cache = BindingCache(SECURE)
    cache.update(signed(update()), 0.0)
    (install,) = cache.tick(1.0)
    assert isinstance(install, Install)
    assert install.acknowledge is not None
    assert install.acknowledge.association is ASSOCIATION


@pytest.mark.parametrize(
    "dropped",
    [update(), signed(update(home="2001:db8:99::101"))],
    ids=["no option", "no association"],
)
def test_unauthenticated_updates_are_discarded(dropped: BindingUpdate) -> None:
    (action,) = BindingCache(SECURE).update(dropped, 0.0)
    assert isinstance(action, Discard)


def test_a_wrong_authenticator_gets_status_146_and_changes_nothing() -> None:
    cache = registered(SECURE, update(sequence=10))
    forged = signed(update(CARE_OF_2, 11), SecurityAssociation(256, b"another key, 16b"))
    assert answer(cache.update(forged, 5.0))[0] is Status.AUTHENTICATION_FAILED
    assert only(cache).care_of_address == CARE_OF_1
    # Nor has it used up the sequence number.
    assert answer(cache.update(signed(update(CARE_OF_2, 11)), 5.0))[0] is Status.ACCEPTED


def ended_by_deregistration(cache: BindingCache) -> None:
    cache.update(signed(going_home(11)), 5.0)
    cache.removed(HOME_ADDRESS)


def ended_by_expiry(cache: BindingCache) -> None:
    cache.update(signed(update(CARE_OF_2, 11)), 5.0)
    cache.tick(1000.0)
    cache.removed(HOME_ADDRESS)


@pytest.mark.parametrize("end", [ended_by_deregistration, ended_by_expiry])
def test_a_recorded_update_cannot_be_replayed_after_the_binding_is_gone(end: object) -> None:
    recorded = signed(update(sequence=10))
    cache = registered(SECURE, update(sequence=10))
    end(cache)  # type: ignore[operator]
    assert len(cache) == 0
    assert answer(cache.update(recorded, 2000.0)) == (Status.SEQUENCE_OUT_OF_WINDOW, 11, 0)
    assert len(cache) == 0
    (start,) = cache.update(signed(update(sequence=12)), 2000.0)
    assert isinstance(start, StartDad)


def test_an_update_that_was_refused_cannot_be_replayed_either() -> None:
    cache = BindingCache(SECURE)
    recorded = signed(update(sequence=10))
    cache.update(recorded, 0.0)
    cache.duplicate_found(HOME_ADDRESS)
    assert answer(cache.update(recorded, 60.0))[0] is Status.SEQUENCE_OUT_OF_WINDOW


def test_keys_are_not_shown() -> None:
    keys: Mapping[str, SecurityAssociation] = {HOME_ADDRESS: SecurityAssociation(256, b"secret secret 16")}
    assert "secret" not in repr(replace(POLICY, keys=keys))
