# SPDX-License-Identifier: Apache-2.0
"""What is done to a binding cache in tests: updates, signed or not, and the answers to them."""

from dataclasses import replace
from ipaddress import IPv6Network

from hoaflow.home_agent.cache import DAD_SECONDS, Acknowledge, Action, Binding, BindingCache, Install, Policy
from hoaflow.mobility import wire
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.messages import BindingUpdate, MnHaAuthentication, Status

HOME_AGENT, HOME_ADDRESS = "2001:db8:99::1", "2001:db8:99::100"
CARE_OF_1, CARE_OF_2 = "2001:db8:2::2", "2001:db8:3::2"


ASSOCIATION = SecurityAssociation(256, bytes(16))
POLICY = Policy(HOME_AGENT, IPv6Network("2001:db8:99::/64"), max_lifetime=100, max_bindings=2, keys=None)
SECURE = replace(POLICY, keys={HOME_ADDRESS: ASSOCIATION})


def update(care_of: str = CARE_OF_1, sequence: int = 1, home: str = HOME_ADDRESS, **changes: object) -> BindingUpdate:
    """Return a Binding Update for a home registration."""
    base = BindingUpdate(care_of, HOME_AGENT, home, care_of, sequence, lifetime=60)
    return replace(base, **changes)  # type: ignore[arg-type]


def going_home(sequence: int) -> BindingUpdate:
    """Return the deregistration that is sent from the home link."""
    return update(HOME_ADDRESS, sequence, lifetime=0)


def signed(plain: BindingUpdate, association: SecurityAssociation = ASSOCIATION) -> BindingUpdate:
    """Return the update with its authentication option."""
    covered = wire.authenticated_part(wire.binding_update_header(plain, association.spi))
    authenticator = association.authenticator(plain.care_of_address, plain.home_address, covered)
    return replace(plain, authentication=MnHaAuthentication(association.spi, covered, authenticator))


def answer(actions: list[Action]) -> tuple[Status, int, int]:
    """Return status, sequence number and lifetime of the one acknowledgement among the actions."""
    answers = [action.acknowledge if isinstance(action, Install) else action for action in actions]
    (found,) = (action for action in answers if isinstance(action, Acknowledge))
    return found.status, found.sequence, found.lifetime


def registered(policy: Policy = POLICY, first: BindingUpdate | None = None) -> BindingCache:
    """Return a cache with one registered binding, at time 1."""
    cache = BindingCache(policy)
    plain = first or update()
    cache.update(signed(plain) if policy.keys else plain, 0.0)
    cache.tick(DAD_SECONDS)
    return cache


def only(cache: BindingCache) -> Binding:
    """Return the cache's one entry."""
    (binding,) = cache
    return binding
