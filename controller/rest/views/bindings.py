# SPDX-License-Identifier: Apache-2.0
"""Convert bindings and home agents to answers."""

from collections.abc import Mapping
from typing import Protocol

from controller.core.bindings import Binding
from controller.core.flows import FlowKey
from controller.core.home_agents import HomeAgent
from controller.core.offload import Offload
from controller.core.protocols import RULES, in_words_of
from controller.core.router import Router
from controller.core.traffic import Counters
from controller.core.updates import covered_by
from controller.rest.schemas import answers
from controller.rest.views.values import dpid_text, seconds_left
from hoaflow.addresses import format_address


class FlowCounters(Protocol):
    """A function that returns a switch's counters, by flow."""

    def __call__(self, dpid: int) -> Mapping[FlowKey, Counters]:
        """Return the counters of a switch; none if it does not answer."""


def home_agent_view(home_agent: HomeAgent, offload: Offload, now: float) -> answers.HomeAgent:
    """Return the answer for a home agent."""
    lease_holds = home_agent.lease_holds(now)
    return answers.HomeAgent(
        home_agent=format_address(home_agent.address),
        home_prefixes=[f"{format_address(p.packed)}/{p.length}" for p in home_agent.home_prefixes],
        lease=home_agent.lease,
        expires_in=seconds_left(home_agent.lease_ends, now),
        status=home_agent.status.value if lease_holds else "expired",
        snapshot="held" if lease_holds and home_agent.is_known else "wanted",
        bindings=offload.registrations.count(home_agent.address),
        protocols=[each for each in RULES if each in home_agent.protocols],
        group=home_agent.group,
        owner=None if home_agent.owner is None else answers.Owner(*home_agent.owner),
    )


def binding_view(
    binding: Binding, offload: Offload, counters: FlowCounters, now: float, brief: bool = False
) -> answers.Binding:
    """Return the answer for a binding, with its state on each router that is prepared for its home agent.

    `brief`: on those alone that carry it or have counted packets for it (see `BindingStates.in_brief`).
    """
    state = offload.states.in_brief(binding, now) if brief else offload.states.of(binding, now)
    by_identification = binding.rules.ordered_by == "identification"
    routers = {}
    for dpid, on_router in state.routers.items():
        packets, octets = counted(binding, offload.router(dpid), counters)
        reason = in_words_of(binding.protocol, on_router.reason.text) if on_router.reason else None
        routers[dpid_text(dpid)] = answers.BindingOnRouter(on_router.state, packets, octets, reason)
    return answers.Binding(
        home_address=str(binding.home_address),
        care_of_address=format_address(binding.care_of_address),
        home_agent=format_address(binding.home_agent),
        lifetime=binding.lifetime,
        sequence=None if by_identification else binding.sequence,
        expires_in=seconds_left(binding.expires_at, now),
        state=state.state,
        routers=routers,
        withheld=covered_by(offload.binding(binding.home_address)) if offload.is_covered(binding) else binding.withheld,
        protocol=binding.protocol,
        timestamp=binding.timestamp,
        identification=binding.sequence if by_identification else None,
        reverse_tunnel=binding.reverse_tunnel,
    )


def counted(binding: Binding, router: Router, counters: FlowCounters) -> Counters:
    """Return a router's counters for a binding, with those of replaced flows."""
    by_key = counters(router.dpid)
    found = [by_key[key] for key in router.counted_keys(binding) if key in by_key]
    found.append(router.retired(binding.home_address))
    return Counters(sum(each.packets for each in found), sum(each.bytes for each in found))
