# SPDX-License-Identifier: Apache-2.0
"""Count bindings by home agent and state, in small steps."""

from collections import Counter
from collections.abc import Iterator

from controller.core.offload import Offload

# How many bindings are examined in one step: each takes some ten microseconds for each router.
STEP = 100

Counts = Counter[tuple[bytes, str]]


def count_bindings(offload: Offload, now: float) -> Iterator[Counts]:
    """Count bindings by home agent and state; yield the counts so far after each step, at last all of them.

    Only bindings that have not become active are examined, and those that on-demand routers have been asked for. The
    others of a home agent share a state, which follows from its lease and its gates.
    """
    counts: Counts = Counter()
    examined: Counter[bytes] = Counter()
    may_offload = {agent.address for agent in offload.home_agents if agent.may_offload(now)}
    for number, home_address in enumerate(list(offload.activations.unconfirmed), start=1):
        binding = offload.bindings.get(home_address)
        if binding is not None and binding.home_agent in may_offload:
            counts[binding.home_agent, offload.states.of(binding, now).state] += 1
            examined[binding.home_agent] += 1
        if number % STEP == 0:
            yield counts
    for number, home_address in enumerate(offload.routers.askers.asked, start=1):
        binding = offload.bindings.get(home_address)
        if (
            binding is not None
            and binding.home_agent in may_offload
            and home_address not in offload.activations.unconfirmed
        ):
            counts[binding.home_agent, offload.states.of_asked(binding, now)] += 1
            examined[binding.home_agent] += 1
        if number % STEP == 0:
            yield counts
    for agent in offload.home_agents:
        others = max(0, offload.bindings.count(agent.address) - examined[agent.address])
        counts[agent.address, offload.states.of_confirmed(agent, now)] += others
        counts[agent.address, "withheld"] = offload.withheld.count(agent.address) + offload.covered.count(agent.address)
    yield counts
