# SPDX-License-Identifier: Apache-2.0
"""Convert explanations of packets' paths to answers."""

from controller.core.explanation import Explanation, RouterExplanation
from controller.core.offload import Offload
from controller.core.protocols import in_words_of
from controller.core.reasons import Remedy, Step
from controller.core.router import Router
from controller.core.traffic import Counters
from controller.core.update_history import RecordedUpdate
from controller.rest.schemas import answers
from controller.rest.views.bindings import FlowCounters, binding_view, counted, home_agent_view
from controller.rest.views.routers import backend_name, flow_view
from controller.rest.views.values import dpid_text, seconds_left, time_of_day
from hoaflow.addresses import Prefix, format_address

# What an operator types to do it.
COMMANDS = {
    Step.CONNECT_SWITCH: "ovs-vsctl set-controller, on the router",
    Step.DRAIN: "hoaflow drain {router}",
    Step.UNDRAIN: "hoaflow undrain {router}",
    Step.RUN_AGENT: "hoaflow-router run, on the router",
    Step.PREPARE_ROUTER: "hoaflow-router setup --home-agent {home_agent}, on the router",
    Step.EXAMINE_ROUTER: "hoaflow-router doctor, on the router",
    Step.EXAMINE_LINKS: "ip link, on the router",
    Step.EXPLAIN: "hoaflow explain {home_address}",
}


def explanation_view(
    home_address: Prefix, found: Explanation, offload: Offload, counters: FlowCounters, now: float
) -> answers.Explanation:
    """Return the answer for an explanation, with current counters."""
    return answers.Explanation(
        home_address=str(home_address),
        path=found.path,
        since=None if found.since is None else time_of_day(found.since, now),
        reason=in_words_of(found.protocol, found.reason),
        binding=None if found.binding is None else binding_view(found.binding, offload, counters, now),
        home_agent=home_agent_view(found.home_agent, offload, now),
        routers={dpid_text(dpid): _on_router(each, found, counters, now) for dpid, each in found.routers.items()},
        updates=[_update(each, now) for each in found.updates],
        would_change=[in_words_of(found.protocol, _change(remedy)) for remedy in found.would_change],
    )


def _on_router(
    on_router: RouterExplanation, found: Explanation, counters: FlowCounters, now: float
) -> answers.ExplanationOnRouter:
    router, state, gate, binding = on_router.router, on_router.state, on_router.gate, found.binding
    by_key = counters(router.dpid)
    packets, octets = (0, 0) if binding is None else counted(binding, router, counters)
    entries = [] if binding is None else router.entries(binding, now)
    return answers.ExplanationOnRouter(
        backend=backend_name(router),
        connected=router.switch.is_there,
        draining=router.gates.draining,
        state=state.state,
        reason=in_words_of(
            found.protocol, state.reason.text if state.reason else "its packets go straight to the care-of address"
        ),
        gate=answers.GateForHomeAddress(gate is not None, seconds_left(gate.expires_at if gate else None, now)),
        packets=packets,
        bytes=octets,
        flows=[flow_view(entry, by_key.get(entry.flow.key, Counters(0, 0)), router, now) for entry in entries],
    )


def unknown_view(router: Router, reason: str) -> answers.ExplanationOnRouter:
    """Return the answer for a router whose master has not said how a binding stands there."""
    return answers.ExplanationOnRouter(
        backend=backend_name(router),
        connected=router.switch.is_there,
        draining=router.gates.draining,
        state="unknown",
        reason=reason,
        gate=answers.GateForHomeAddress(False, None),
        packets=0,
        bytes=0,
        flows=[],
    )


def _change(remedy: Remedy) -> str:
    """Say what would change the path, and what to type for it."""
    if remedy.step is None:
        return remedy.text
    subjects = {"router": "ROUTER", "home_agent": "HOME-AGENT", "home_address": "HOME-ADDRESS"}
    if isinstance(remedy.subject, int):
        subjects["router"] = dpid_text(remedy.subject)
    elif isinstance(remedy.subject, bytes):
        subjects["home_agent"] = format_address(remedy.subject)
    elif remedy.subject is not None:
        subjects["home_address"] = str(remedy.subject)
    return f"{remedy.text} ({COMMANDS[remedy.step].format_map(subjects)})"


def _update(update: RecordedUpdate, now: float) -> answers.BindingUpdate:
    return answers.BindingUpdate(
        time=time_of_day(update.time, now),
        care_of_address=None if update.care_of_address is None else format_address(update.care_of_address),
        sequence=update.sequence,
        lifetime=update.lifetime,
        source=update.source,
        result=update.result,
        reason=update.reason,
    )
