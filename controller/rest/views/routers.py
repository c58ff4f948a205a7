# SPDX-License-Identifier: Apache-2.0
"""Convert routers, their tunnel lists and their flows to answers."""

from collections.abc import Sequence
from typing import Any

from controller.core.flow_differences import FlowDifference
from controller.core.flows import FlowKey
from controller.core.home_agents import HomeAgent
from controller.core.installed import FlowEntry, ReportedFlow
from controller.core.offload import Offload
from controller.core.router import Router
from controller.core.traffic import Counters
from controller.core.tunnel_list import TunnelDifference
from controller.rest.schemas import answers, flow_answers
from controller.rest.views.values import dpid_text, seconds_left
from hoaflow.addresses import format_address


def router_view(router: Router, offload: Offload, now: float) -> answers.Router:
    """Return the answer for a router: its switch, its tunnel agent, and what these have refused."""
    tunnels = router.tunnels
    return answers.Router(
        dpid=dpid_text(router.dpid),
        connected=router.switch.is_there,
        master=router.switch.master,
        draining=router.gates.draining,
        backend=backend_name(router),
        agent="unseen" if tunnels.agent_lease_ends is None else "alive" if tunnels.agent_alive(now) else "lost",
        endpoints=[
            answers.Endpoint(format_address(address), endpoint.port, endpoint.mac, endpoint.problem)
            for address, endpoint in tunnels.endpoints.items()
        ],
        tunnels=answers.TunnelRevisions(tunnels.revision, tunnels.acknowledged),
        gates=[
            answers.Gate(str(gate.flow.serves), format_address(gate.home_agent), seconds_left(gate.expires_at, now))
            for home_agent in offload.home_agents
            for gate in router.gates.open(home_agent, now)
        ],
        refused_flows=[
            answers.RefusedFlow(key[0].table, key[0].priority, refusal.reason, refusal.times)
            for key, refusal in router.flows.refused.all().items()
        ],
        refused_tunnels=[
            answers.RefusedTunnel(str(home_address), reason) for home_address, reason in tunnels.failures.items()
        ],
        install="on-demand" if router.demand.on else "everything",
        on_demand_problem=router.demand.unsupported,
    )


def backend_name(router: Router) -> answers.Backend:
    """Return the name of a router's backend; None if it has none."""
    return "flow" if router.tunnels.flow else "route" if router.tunnels.endpoints else None


def tunnels_view(
    difference: TunnelDifference, home_agents: Sequence[HomeAgent], master: bool, generation: int
) -> answers.TunnelList:
    """Return the answer to a tunnel agent; `home_agents` are those whose snapshot has come."""
    return answers.TunnelList(
        revision=difference.revision,
        full=difference.full,
        home_agents=[format_address(agent.address) for agent in home_agents],
        tunnels=[
            answers.Tunnel(
                str(binding.home_address),
                format_address(binding.care_of_address),
                format_address(binding.home_agent),
                binding.reverse_tunnel,
            )
            for binding in difference.tunnels
        ],
        removed=[str(home_address) for home_address in difference.removed],
        master=master,
        generation=generation,
    )


def flow_members(entry: FlowEntry, router: Router, now: float) -> dict[str, Any]:
    """Return the members that all answers for a flow have."""
    flow = entry.flow
    return {
        "table": flow.table,
        "priority": flow.priority,
        "kind": flow.kind.name.lower(),
        "flow": str(flow),
        "cookie": f"{flow.cookie:#x}",
        "expires_in": seconds_left(entry.expires_at, now),
        "serves": None if flow.serves is None else str(flow.serves),
        "home_addresses": [str(prefix) for prefix in router.served_by(flow, now)],
    }


def flow_view(entry: FlowEntry, counters: Counters, router: Router, now: float) -> flow_answers.Flow:
    """Return the answer for a flow on a switch."""
    return flow_answers.Flow(**flow_members(entry, router, now), packets=counters.packets, bytes=counters.bytes)


def difference_view(
    found: FlowDifference, installed: Sequence[ReportedFlow], router: Router, limit: int, now: float
) -> flow_answers.Difference:
    """Return the answer for a difference, with at most `limit` flows of each kind."""
    counters: dict[FlowKey, Counters] = {flow.key: Counters(flow.packets, flow.bytes) for flow in installed}
    return flow_answers.Difference(
        in_sync=found.in_sync,
        missing=[
            flow_answers.MissingFlow(**flow_members(entry, router, now), reason=reason)
            for entry, reason in found.missing[:limit]
        ],
        unexpected=[
            flow_answers.UnexpectedFlow(
                **flow_members(entry, router, now), **counters[entry.flow.key]._asdict(), reason=reason
            )
            for entry, reason in found.unexpected[:limit]
        ],
        different=[
            flow_answers.DifferentFlow(
                flow_answers.DesiredFlow(**flow_members(desired, router, now)),
                flow_view(present, counters[present.flow.key], router, now),
            )
            for desired, present in found.different[:limit]
        ],
        totals=flow_answers.DifferenceTotals(len(found.missing), len(found.unexpected), len(found.different)),
    )
