# SPDX-License-Identifier: Apache-2.0
"""Which mobile nodes a draining home agent tells to leave, and when (RFC 5142, section 5)."""

import math
from dataclasses import replace
from ipaddress import IPv6Network

from hoaflow.home_agent.cache import Acknowledge, Binding, BindingCache, Policy, State
from hoaflow.home_agent.switching import MOST_TIMES, RATE, Switching
from hoaflow.mobility.messages import BindingUpdate, Status

HOME_AGENT, CARE_OF = "2001:db8:99::1", "2001:db8:2::2"


def binding(number: int) -> Binding:
    home_address = f"2001:db8:99::{number:x}"
    update = BindingUpdate(CARE_OF, HOME_AGENT, home_address, CARE_OF, 1, 60)
    return Binding(update, State.REGISTERED, 60, due=math.inf)


def told(switching: Switching, until: float) -> list[tuple[int, str]]:
    """Return whom it tells when, in seconds."""
    found = []
    for eighth in range(round(8 * until)):
        found += [(round(eighth / 8), each.home_address) for each in switching.tick(eighth / 8)]
    return found


def test_a_node_is_told_again_after_5_10_and_20_seconds_and_not_for_ever() -> None:
    bindings = {each.home_address: each for each in [binding(0x100)]}
    switching = Switching(bindings.get)
    switching.begin(bindings.values(), 0.0)
    moments = [moment for moment, _ in told(switching, 600)]
    assert moments[:5] == [0, 5, 15, 35, 55]
    assert len(moments) == MOST_TIMES
    assert switching.next_due() is None


def test_a_node_that_has_left_or_does_not_know_the_message_is_told_no_more() -> None:
    bindings = {each.home_address: each for each in (binding(0x100), binding(0x101), binding(0x102))}
    switching = Switching(bindings.get)
    switching.begin(bindings.values(), 0.0)
    assert len(told(switching, 1)) == 3
    first, second, third = bindings
    bindings[first] = replace(bindings[first], state=State.DYING)
    assert not switching.refused(second, "2001:db8:bad::1")
    assert switching.refused(second, CARE_OF)
    assert {home_address for _, home_address in told(switching, 30)} == {third}


def test_all_nodes_are_not_told_at_once() -> None:
    bindings = {each.home_address: each for each in map(binding, range(0x100, 0x100 + 3 * round(RATE)))}
    switching = Switching(bindings.get)
    switching.begin(bindings.values(), 0.0)
    assert 0 < len(told(switching, 1)) <= RATE + 1
    assert len({home_address for _, home_address in told(switching, 4)}) > RATE


def test_a_draining_home_agent_refuses_nodes_that_it_does_not_have() -> None:
    cache = BindingCache(Policy(HOME_AGENT, IPv6Network("2001:db8:99::/64"), 3600, 10, None))
    known, new = binding(0x100).update, binding(0x101).update
    cache.update(known, 0.0)
    cache.tick(2.0)
    cache.draining = True
    statuses = [
        action.status
        for update in (replace(known, sequence=2), new)
        for action in cache.update(update, 3.0)
        if isinstance(action, Acknowledge)
    ]
    assert statuses == [Status.ADMINISTRATIVELY_PROHIBITED]
    assert [each.home_address for each in cache] == [known.home_address]
