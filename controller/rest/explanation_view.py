# SPDX-License-Identifier: Apache-2.0
"""How an explanation looks in an answer."""

import time

from controller.core.explanation import Explanation, OnRouter
from controller.core.history import Update
from controller.core.offload import Offload
from controller.core.traffic import Counters
from controller.events import rfc3339
from controller.rest import answers, views
from hoaflow.addresses import Prefix, format_address


def explanation_view(
    home_address: Prefix, found: Explanation, offload: Offload, counters: views.FlowCounters, now: float
) -> answers.Explanation:
    """An explanation, with the counters of the moment."""
    return answers.Explanation(
        home_address=str(home_address),
        path=found.path,
        since=None if found.since is None else _time(found.since, now),
        reason=found.reason,
        binding=None if found.binding is None else views.binding_view(found.binding, offload, counters, now),
        home_agent=views.home_agent_view(found.home_agent, offload, now),
        routers={views.dpid_text(dpid): _on_router(each, found, counters, now) for dpid, each in found.routers.items()},
        updates=[_update(each, now) for each in found.updates],
        would_change=found.would_change,
    )


def _on_router(
    on_router: OnRouter, found: Explanation, counters: views.FlowCounters, now: float
) -> answers.ExplanationOnRouter:
    router, state, gate, binding = on_router.router, on_router.state, on_router.gate, found.binding
    by_key = counters(router.dpid)
    packets, octets = (0, 0) if binding is None else views.counted(binding, router, counters)
    entries = [] if binding is None else router.entries(binding, now)
    return answers.ExplanationOnRouter(
        backend=views.backend_name(router),
        connected=router.connected,
        draining=router.gates.draining,
        state=state.state,
        reason=state.reason.text if state.reason else "its packets go straight to the care-of address",
        gate=answers.GateForHomeAddress(gate is not None, views.seconds_left(gate.expires_at if gate else None, now)),
        packets=packets,
        bytes=octets,
        flows=[views.flow_view(entry, by_key.get(entry.flow.key, Counters(0, 0)), router, now) for entry in entries],
    )


def _update(update: Update, now: float) -> answers.BindingUpdate:
    return answers.BindingUpdate(
        time=_time(update.time, now),
        care_of_address=None if update.care_of_address is None else format_address(update.care_of_address),
        sequence=update.sequence,
        lifetime=update.lifetime,
        source=update.source,
        result=update.result,
        reason=update.reason,
    )


def _time(moment: float, now: float) -> str:
    """Return a moment of the monotonic clock, which shows ``now``, as time of day."""
    return rfc3339(time.time() - (now - moment))
