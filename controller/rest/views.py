# SPDX-License-Identifier: Apache-2.0
"""How the core's values look in answers. Addresses come in RFC 5952 form, times as seconds left."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from controller.core.addresses import format_address
from controller.core.bindings import Binding
from controller.core.flows import FlowKey
from controller.core.home_agents import HomeAgent
from controller.core.offload import Offload
from controller.core.router import Router
from controller.core.tunnels import News
from controller.rest import answers
from controller.southbound.channel import Counters
from controller.southbound.decoder import InstalledFlow


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
        bindings=offload.bindings.count(home_agent.address),
    )


def binding_view(binding: Binding, offload: Offload, counters: FlowCounters, now: float) -> answers.Binding:
    """A binding, with its state on each router that is prepared for its home agent."""
    state = offload.state_of(binding, now)
    routers = {}
    for dpid, on_router in state.routers.items():
        router = offload.router(dpid)
        counted = [counters(dpid).get(key, Counters(0, 0)) for key in router.counted_keys(binding)]
        counted.append(Counters(*router.retired(binding.home_address)))
        routers[dpid_text(dpid)] = answers.BindingOnRouter(
            on_router.state,
            packets=sum(counter.packets for counter in counted),
            bytes=sum(counter.bytes for counter in counted),
            reason=on_router.reason,
        )
    return answers.Binding(
        home_address=str(binding.home_address),
        care_of_address=format_address(binding.care_of_address),
        home_agent=format_address(binding.home_agent),
        lifetime=binding.lifetime,
        sequence=binding.sequence,
        expires_in=None if binding.expires_at is None else seconds_left(binding.expires_at, now),
        state=state.state,
        routers=routers,
    )


def router_view(router: Router, offload: Offload, now: float) -> answers.Router:
    """A router: its switch, its tunnel agent, and what they refused."""
    tunnels = router.tunnels
    gates_open = [gate for home_agent in offload.home_agents for gate in router.open_gates(home_agent, now)]
    return answers.Router(
        dpid=dpid_text(router.dpid),
        connected=router.connected,
        backend="flow" if tunnels.flow else "route" if tunnels.endpoints else None,
        agent="unseen" if tunnels.agent_lease_ends is None else "alive" if tunnels.agent_alive(now) else "lost",
        endpoints=[
            answers.Endpoint(format_address(address), endpoint.port, endpoint.mac)
            for address, endpoint in tunnels.endpoints.items()
        ],
        tunnels=answers.TunnelRevisions(tunnels.revision, tunnels.acknowledged),
        open_gates=[str(gate.serves) for gate in gates_open],
        refused_flows=[
            answers.RefusedFlow(key[0].table, key[0].priority, rejection.reason, rejection.times)
            for key, rejection in router.flows.rejections().items()
        ],
        refused_tunnels=[
            answers.RefusedTunnel(str(home_address), reason) for home_address, reason in tunnels.failures.items()
        ],
    )


def flow_view(installed: InstalledFlow, router: Router, now: float) -> answers.Flow:
    """A flow of ours as its switch reports it. Raises ValueError for another application's."""
    if installed.entry is None:
        raise ValueError(f"{installed.key} is not a flow of ours")
    flow, expires_at = installed.entry.flow, installed.entry.expires_at
    return answers.Flow(
        table=flow.table,
        priority=flow.priority,
        kind=flow.kind.name.lower(),
        flow=str(flow),
        cookie=f"{flow.cookie:#x}",
        packets=installed.packets,
        bytes=installed.bytes,
        expires_in=None if expires_at is None else seconds_left(expires_at, now),
        serves=None if flow.serves is None else str(flow.serves),
        home_addresses=[str(prefix) for prefix in router.served_by(flow)],
    )


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


def seconds_left(moment: float, now: float) -> float:
    """Return the seconds until ``moment``, 0 if it is past."""
    return max(0.0, round(moment - now, 3))
