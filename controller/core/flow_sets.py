# SPDX-License-Identifier: Apache-2.0
"""Which flows go together: those of a home agent, and those of a binding."""

from collections.abc import Mapping
from typing import NamedTuple

from controller.core import pipeline
from controller.core.addresses import Prefix
from controller.core.backends import Backend, FlowBackend
from controller.core.bindings import Binding
from controller.core.flows import Flow, Kind, match_value
from controller.core.home_agents import HomeAgent


class Path(NamedTuple):
    """What an uplink flow serves: a care-of address, its home agent, and the protocol in the tunnel."""

    care_of_address: bytes
    home_agent: bytes
    payload: int


def gates_of(home_agent: HomeAgent) -> list[Flow]:
    """Return the gates of one home agent: one per home prefix, and one for its own address per family of these."""
    payloads = sorted({pipeline.payload_protocol(prefix) for prefix in home_agent.home_prefixes}, reverse=True)
    return [
        *(pipeline.uplink_gate(home_agent.address, payload) for payload in payloads),
        *(pipeline.downlink_gate(prefix) for prefix in home_agent.home_prefixes),
    ]


def guards_of(home_agent: HomeAgent, backend: Backend | None) -> list[Flow]:
    """Return what has to stand before one of the home agent's gates may open."""
    guards = [flow for prefix in home_agent.home_prefixes for flow in pipeline.guard_flows(prefix)]
    if isinstance(backend, FlowBackend):
        guards.append(pipeline.receive_flow(backend.receive))
    return guards


def flows_of(binding: Binding, backend: Backend) -> list[Flow]:
    """Return the flows that carry a binding's packets: downlink, uplink, and verification where OpenFlow does it."""
    flows = [
        pipeline.downlink_flow(binding.home_address, backend.downlink(binding)),
        pipeline.uplink_flow(*path_of(binding), backend.uplink()),
    ]
    verified = backend.verified()
    if verified is not None:
        flows.append(pipeline.verify_flow(binding.care_of_address, binding.home_address, verified))
    return flows


def path_of(binding: Binding) -> Path:
    """Return what a binding's uplink flow serves."""
    return Path(binding.care_of_address, binding.home_agent, pipeline.payload_protocol(binding.home_address))


def last_end(users: Mapping[Prefix, float | None]) -> float | None:
    """Return when the last of these bindings ends, None for never."""
    ends = [end for end in users.values() if end is not None]
    return max(ends) if len(ends) == len(users) else None


def home_end(flow: Flow) -> Prefix:
    """Return what lies in a home prefix of what a flow matches: of an uplink flow, the home agent's address."""
    end = match_value(flow.match, "ipv6_dst") if flow.kind is Kind.UPLINK else flow.serves
    if not isinstance(end, Prefix):
        raise ValueError(f"{flow} serves nobody at home")
    return end
