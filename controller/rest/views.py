# SPDX-License-Identifier: Apache-2.0
"""How the core's values look in answers. Addresses come in RFC 5952 form, times as seconds left."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, overload

from controller.core.bindings import Binding
from controller.core.flows import FlowKey
from controller.core.home_agents import HomeAgent
from controller.core.offload import Offload
from controller.core.reconciliation import Entry
from controller.core.router import Router
from controller.core.traffic import Counters
from controller.core.tunnels import News
from controller.rest import answers
from hoaflow.addresses import format_address


class FlowCounters(Protocol):
    """Where counters come from: the switches' own, by datapath id; empty where a switch does not answer."""

    def __call__(self, dpid: int) -> Mapping[FlowKey, Counters]: ...


def dpid_text(dpid: int) -> str:
    """Return a datapath id as all calls show it."""
    return f"{dpid:016x}"


def home_agent_view(home_agent: HomeAgent, offload: Offload, now: float) -> answers.HomeAgent:
    """A home agent."""
    held = home_agent.lease_held(now)
    return answers.HomeAgent(
        home_agent=format_address(home_agent.address),
        home_prefixes=[f"{format_address(p.packed)}/{p.length}" for p in home_agent.home_prefixes],
        lease=home_agent.lease,
        expires_in=seconds_left(home_agent.lease_ends, now),
        status=home_agent.status.value if held else "expired",
        snapshot="held" if home_agent.may_offload(now) else "wanted",
        bindings=offload.bindings.count(home_agent.address) + offload.withheld.count(home_agent.address),
    )


def binding_view(binding: Binding, offload: Offload, counters: FlowCounters, now: float) -> answers.Binding:
    """A binding, with its state on each router that is prepared for its home agent."""
    state = offload.state_of(binding, now)
    routers = {}
    for dpid, on_router in state.routers.items():
        packets, octets = counted(binding, offload.router(dpid), counters)
        reason = on_router.reason.text if on_router.reason else None
        routers[dpid_text(dpid)] = answers.BindingOnRouter(on_router.state, packets, octets, reason)
    return answers.Binding(
        home_address=str(binding.home_address),
        care_of_address=format_address(binding.care_of_address),
        home_agent=format_address(binding.home_agent),
        lifetime=binding.lifetime,
        sequence=binding.sequence,
        expires_in=seconds_left(binding.expires_at, now),
        state=state.state,
        routers=routers,
        withheld=binding.withheld,
    )


def counted(binding: Binding, router: Router, counters: FlowCounters) -> Counters:
    """Return what a router's flows have counted for a binding, also those that have been replaced since."""
    by_key = counters(router.dpid)
    found = [by_key[key] for key in router.counted_keys(binding) if key in by_key]
    found.append(Counters(*router.retired(binding.home_address)))
    return Counters(sum(each.packets for each in found), sum(each.bytes for each in found))


def router_view(router: Router, offload: Offload, now: float) -> answers.Router:
    """A router: its switch, its tunnel agent, and what they refused."""
    tunnels = router.tunnels
    return answers.Router(
        dpid=dpid_text(router.dpid),
        connected=router.connected,
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
            answers.RefusedFlow(key[0].table, key[0].priority, rejection.reason, rejection.times)
            for key, rejection in router.flows.rejections.all().items()
        ],
        refused_tunnels=[
            answers.RefusedTunnel(str(home_address), reason) for home_address, reason in tunnels.failures.items()
        ],
    )


def backend_name(router: Router) -> answers.Backend:
    """Return which backend a router has."""
    return "flow" if router.tunnels.flow else "route" if router.tunnels.endpoints else None


def flow_members(entry: Entry, router: Router, now: float) -> dict[str, Any]:
    """The members that all views of a flow have."""
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


def flow_view(entry: Entry, counters: Counters, router: Router, now: float) -> answers.Flow:
    """A flow of ours on a switch."""
    return answers.Flow(**flow_members(entry, router, now), packets=counters.packets, bytes=counters.bytes)


def news_view(news: News, home_agents: Sequence[HomeAgent]) -> answers.TunnelList:
    """What a tunnel agent is told; ``home_agents`` are those whose snapshot has come."""
    return answers.TunnelList(
        revision=news.revision,
        full=news.full,
        home_agents=[format_address(agent.address) for agent in home_agents],
        tunnels=[
            answers.Tunnel(
                str(binding.home_address), format_address(binding.care_of_address), format_address(binding.home_agent)
            )
            for binding in news.tunnels
        ],
        removed=[str(home_address) for home_address in news.removed],
    )


@overload
def seconds_left(moment: float, now: float) -> float: ...
@overload
def seconds_left(moment: None, now: float) -> None: ...
def seconds_left(moment: float | None, now: float) -> float | None:
    """Return the seconds until ``moment``, 0 if it is past; None if there is no such moment."""
    return None if moment is None else max(0.0, round(moment - now, 3))
