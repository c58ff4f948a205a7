# SPDX-License-Identifier: Apache-2.0
"""Explain which path the packets for a home address take, and why.

Nothing is decided here: every reason comes from the function that decided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from controller.core import reasons
from controller.core.binding_states import State
from controller.core.bindings import Binding
from controller.core.gates import OpenGate
from controller.core.home_agents import HomeAgent, Status
from controller.core.offload import Offload
from controller.core.protocols import RULES, Protocol
from controller.core.reasons import Remedy, Step, no_binding
from controller.core.router import Router
from controller.core.standing import BindingOnRouter
from controller.core.update_history import RecordedUpdate
from hoaflow.addresses import Prefix, format_address, why_not_global_unicast
from hoaflow.errors import HoaflowError

Path = Literal["direct", "home-agent", "mixed", "home"]


@dataclass(frozen=True, slots=True)
class RouterExplanation:
    """How a binding stands on one router, and the gate for its home address, if one stands there."""

    router: Router
    state: BindingOnRouter
    gate: OpenGate | None
    since: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The path of a home address's packets, why in one sentence, and what would change it.

    ``since`` is on the caller's clock, None where it is not known. ``binding`` is the one that the packets take: the
    home address's own, or that of a mobile network in which it lies.
    """

    path: Path
    since: float | None
    reason: str
    home_agent: HomeAgent
    binding: Binding | None
    routers: Mapping[int, RouterExplanation]
    updates: tuple[RecordedUpdate, ...]
    would_change: list[Remedy]

    @property
    def protocol(self) -> Protocol:
        """The protocol of the binding, or if there is none, of its anchor: Mobile IPv6 if that speaks several."""
        if self.binding is not None:
            return self.binding.protocol
        return next(each for each in RULES if each in self.home_agent.protocols)


class NotCovered(HoaflowError):
    """No announced home agent has this address in its home prefixes."""

    def __init__(self, home_address: Prefix) -> None:
        other = why_not_global_unicast(home_address)
        super().__init__(
            f"{home_address} lies in no home prefix of an announced home agent"
            if other is None
            else f"{other}: such packets, to and from mobile nodes, are left to home agents"
        )


def explain(offload: Offload, home_address: Prefix, now: float) -> Explanation:
    """Explain the path of packets for ``home_address``. Raises NotCovered."""
    home_agent = offload.home_agents.covering(home_address)
    if home_agent is None:
        raise NotCovered(home_address)
    binding = offload.bindings.covering(home_address)
    if binding is None and (withheld := offload.withheld.covering(home_address)) is not None:
        return _withheld(offload, withheld, home_agent, now)
    if binding is None:
        return _without_binding(offload, home_address, home_agent, now)
    home_agent = offload.home_agents.get(binding.home_agent) or home_agent
    updates = offload.history.of(binding.home_address)
    state = offload.states.of(binding, now)
    routers = {dpid: _on_router(offload, router, binding, home_agent, now) for dpid, router in offload.routers.items()}
    prepared = {dpid: routers[dpid] for dpid in state.routers}
    why = home_agent.why_not_offloaded(now) or offload.why_suppressed(binding.home_address)
    path = path_of(state.state)
    if why is not None:
        reason, remedies, moments = why.text, [why.remedy], [why.since]
    else:
        why_not = {dpid: each.state.reason and each.state.reason.text for dpid, each in routers.items()}
        reason = path_reason(
            path,
            format_address(binding.care_of_address),
            home_agent.status is Status.DOWN,
            {dpid: why_not.pop(dpid) for dpid in prepared},
            why_not,
        )
        if path != "home-agent" and not binding.reverse_tunnel:
            reason += "; what it sends takes no tunnel here, as it has registered none (RFC 3024)"
        remedies = _remedies(path, binding, home_agent, routers)
        moments = [each.since or _last(updates, "added", "changed") for each in (prepared or routers).values()]
    known = [moment for moment in (*moments, _last(updates, "added")) if moment is not None]
    return Explanation(path, max(known, default=None), reason, home_agent, binding, routers, updates, remedies)


def _last(updates: tuple[RecordedUpdate, ...], *results: str) -> float | None:
    return next((update.time for update in reversed(updates) if update.result in results), None)


def _without_binding(offload: Offload, home_address: Prefix, home_agent: HomeAgent, now: float) -> Explanation:
    updates = offload.history.of(home_address)
    why = home_agent.why_not_offloaded(now)
    if why is not None:  # a mobile node may be registered all the same: its binding has ended only here
        text = f"{why.text}, so whether and where its mobile node is registered is not known here"
        return Explanation("home-agent", why.since, text, home_agent, None, {}, updates, [why.remedy])
    why = no_binding(home_address, home_agent.address, updates[-1] if updates else None)
    return Explanation("home", why.since, why.text, home_agent, None, {}, updates, [why.remedy])


def _withheld(offload: Offload, binding: Binding, home_agent: HomeAgent, now: float) -> Explanation:
    home_agent = offload.home_agents.get(binding.home_agent) or home_agent
    updates = offload.history.of(binding.home_address)
    why = home_agent.why_not_offloaded(now) or reasons.withheld(binding.withheld or "", _last(updates, "withheld"))
    return Explanation("home-agent", why.since, why.text, home_agent, binding, {}, updates, [why.remedy])


def _on_router(
    offload: Offload, router: Router, binding: Binding, home_agent: HomeAgent, now: float
) -> RouterExplanation:
    state = router.standing.of(binding, now)
    gates = router.gates.open(home_agent, now)
    gate = next((each for each in gates if each.flow.serves and each.flow.serves.contains(binding.home_address)), None)
    if state.reason is not None:
        return RouterExplanation(router, state, gate, state.reason.since)
    moments = (router.gates.open_since(home_agent.address), offload.activations.since(binding.home_address))
    return RouterExplanation(router, state, gate, max((each for each in moments if each is not None), default=None))


def path_reason(
    path: Path,
    care_of_address: str,
    until_it_ends: bool,
    prepared: Mapping[int, str | None],
    others: Mapping[int, str | None],
) -> str:
    """Say in one sentence why a binding's packets take ``path``.

    ``prepared`` and ``others`` have the reason why the binding is not active, None if it is, by router: of those
    prepared for its home agent, and of all others. ``until_it_ends``: the home agent is down.
    """
    there = f"straight to {care_of_address}"
    if until_it_ends:
        there += " until its lifetime ends, as the home agent is down"
    if path == "direct":
        sending = sum(reason is None for reason in prepared.values())
        who = "the prepared router sends" if len(prepared) == 1 else f"all {len(prepared)} prepared routers send"
        if sending == len(prepared):
            return f"{who} its packets {there}"
        who = f"{sending} of {len(prepared)} prepared routers {'sends' if sending == 1 else 'send'}"
        return f"{who} its packets {there}; {_why_not(prepared)}"
    if path == "mixed":
        active = sum(reason is None for reason in prepared.values())
        return f"{active} of {len(prepared)} prepared routers send its packets {there}, but {_why_not(prepared)}"
    if prepared:
        return _why_not(prepared)
    if others:
        return f"no router is prepared for its home agent: {_why_not(others)}"
    return "no router is known to the controller"


def _why_not(routers: Mapping[int, str | None]) -> str:
    """Name the routers that do not send packets direct, by what keeps them from it."""
    by_reason: dict[str, list[str]] = {}
    for dpid, reason in routers.items():
        if reason is not None:
            by_reason.setdefault(reason, []).append(f"{dpid:016x}")
    parts = [f"on router {' and '.join(names)}, {text}" for text, names in by_reason.items()]
    return "; ".join(parts)


def path_of(state: State) -> Path:
    """Return the path of a binding's packets, by its state on all routers together."""
    return "direct" if state == "active" else "mixed" if state == "partial" else "home-agent"


def _remedies(
    path: Path, binding: Binding, home_agent: HomeAgent, routers: Mapping[int, RouterExplanation]
) -> list[Remedy]:
    """Say what would change the path: towards the direct one, and away from it."""
    found = [
        each.state.reason.remedy._replace(text=f"router {dpid:016x}: {each.state.reason.remedy.text}")
        for dpid, each in routers.items()
        if each.state.reason is not None
    ]
    if not routers:
        found.append(Remedy("a router: its switch connected to the controller, and its tunnel agent running"))
    if path != "home-agent":
        found.append(Remedy("a deregistration or another binding update of the mobile node"))
        found.append(Remedy("an operator taking a router out of service", Step.DRAIN))
        if binding.expires_at is not None:
            found.append(Remedy("the end of its lifetime, unless it is refreshed before"))
        found.append(Remedy(f"the bridge of home agent {format_address(home_agent.address)} not renewing its lease"))
    return found
