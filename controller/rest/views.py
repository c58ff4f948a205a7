# SPDX-License-Identifier: Apache-2.0
"""How the core's values look in answers. Addresses come in RFC 5952 form, times as seconds left."""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Generic, NamedTuple, Protocol, TypeVar

from controller.core.addresses import Prefix, format_address
from controller.core.bindings import Binding
from controller.core.flows import FlowKey
from controller.core.home_agents import HomeAgent
from controller.core.offload import Offload
from controller.core.router import Router
from controller.core.tunnels import News
from controller.rest.problems import wrong_field
from controller.southbound.channel import Counters

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000

T = TypeVar("T")


class FlowCounters(Protocol):
    """Where counters come from: the switches' own, by datapath id; empty where a switch does not answer."""

    def __call__(self, dpid: int) -> Mapping[FlowKey, Counters]: ...


class Page(NamedTuple, Generic[T]):
    """A part of a list and where the next one begins, None at the end."""

    items: list[T]
    next: str | None


def page(items: Iterable[tuple[str, T]], limit: str | None, cursor: str | None) -> Page[T]:
    """Cut the part of ``items`` (pairs of a unique text and a thing) that a request asks for, ordered by that text.

    Raises Problem for a limit that is not a number from 1 to 1000.
    """
    size = page_size(limit)
    rest = sorted((item for item in items if cursor is None or item[0] > cursor), key=itemgetter(0))
    return Page([thing for _, thing in rest[:size]], rest[size - 1][0] if len(rest) > size else None)


def page_size(limit: str | None) -> int:
    """Return how many items a page has. Raises Problem for a limit that is not a number from 1 to 1000."""
    if limit is None:
        return DEFAULT_LIMIT
    if limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= LARGEST_LIMIT:
        return int(limit)
    raise wrong_field("limit", f"expected a number from 1 to {LARGEST_LIMIT}, got {limit[:40]!r}")


def home_agent_view(home_agent: HomeAgent, offload: Offload, now: float) -> dict[str, object]:
    """A home agent. ``snapshot`` is ``wanted`` while the controller has none from it under its present lease."""
    held = home_agent.lease_held(now)
    return {
        "home_agent": format_address(home_agent.address),
        "home_prefixes": [f"{format_address(p.packed)}/{p.length}" for p in home_agent.home_prefixes],
        "lease": home_agent.lease,
        "expires_in": max(0.0, round(home_agent.lease_ends - now, 3)),
        "status": home_agent.status.value if held else "expired",
        "snapshot": "held" if home_agent.may_offload(now) else "wanted",
        "bindings": offload.bindings.count(home_agent.address),
    }


def binding_view(binding: Binding, offload: Offload, counters: FlowCounters, now: float) -> dict[str, object]:
    """A binding, with its state on each router that is prepared for its home agent."""
    state = offload.state_of(binding, now)
    routers = {}
    for dpid, on_router in state.routers.items():
        router = offload.router(dpid)
        counted = [counters(dpid).get(key, Counters(0, 0)) for key in router.counted_keys(binding)]
        counted.append(Counters(*router.retired(binding.home_address)))
        routers[f"{dpid:016x}"] = {
            "state": on_router.state,
            "packets": sum(counter.packets for counter in counted),
            "bytes": sum(counter.bytes for counter in counted),
        } | ({"reason": on_router.reason} if on_router.reason else {})
    return {
        "home_address": str(binding.home_address),
        "care_of_address": format_address(binding.care_of_address),
        "home_agent": format_address(binding.home_agent),
        "lifetime": binding.lifetime,
        "sequence": binding.sequence,
        "expires_in": None if binding.expires_at is None else max(0.0, round(binding.expires_at - now, 3)),
        "state": state.state,
        "routers": routers,
    }


def router_view(router: Router, offload: Offload, now: float) -> dict[str, object]:
    """A router: its switch, its tunnel agent, and what they refused."""
    tunnels = router.tunnels
    alive = "alive" if tunnels.agent_alive(now) else "lost"
    gates_open = [gate for home_agent in offload.home_agents for gate in router.open_gates(home_agent, now)]
    return {
        "dpid": f"{router.dpid:016x}",
        "connected": router.connected,
        "backend": "flow" if tunnels.flow else "route" if tunnels.endpoints else None,
        "agent": "unseen" if tunnels.agent_lease_ends is None else alive,
        "endpoints": [
            {"home_agent": format_address(address), "port": endpoint.port, "mac": endpoint.mac}
            for address, endpoint in tunnels.endpoints.items()
        ],
        "tunnels": {"revision": tunnels.revision, "acknowledged": tunnels.acknowledged},
        "open_gates": [str(gate.serves) for gate in gates_open],
        "refused_flows": [
            {
                "table": key.table,
                "priority": key.priority,
                "reason": rejection.reason,
                "times": rejection.times,
            }
            for key, rejection in router.flows.rejections().items()
        ],
        "refused_tunnels": [
            {"home_address": str(home_address), "reason": reason} for home_address, reason in tunnels.failures.items()
        ],
    }


def news_view(news: News, home_agents: Sequence[HomeAgent]) -> dict[str, object]:
    """What a tunnel agent is told; ``home_agents`` are those whose snapshot has come."""
    return {
        "revision": news.revision,
        "full": news.full,
        "home_agents": [format_address(agent.address) for agent in home_agents],
        "tunnels": [
            {
                "home_address": str(binding.home_address),
                "care_of_address": format_address(binding.care_of_address),
                "home_agent": format_address(binding.home_agent),
            }
            for binding in news.tunnels
        ],
        "removed": [str(home_address) for home_address in news.removed],
    }


def prefix_text(prefix: Prefix | None) -> str | None:
    """Return a prefix's text, None for none."""
    return None if prefix is None else str(prefix)
