# SPDX-License-Identifier: Apache-2.0
"""Show flows in answers, and how those that a switch has differ from those that it should have."""

from collections.abc import Sequence
from typing import Any

from controller.core.differences import Difference
from controller.core.flows import FlowKey
from controller.core.reconciliation import Entry
from controller.core.router import Router
from controller.core.traffic import Counters
from controller.rest.schemas import answers
from controller.rest.views.values import seconds_left
from controller.southbound.decoder import InstalledFlow


def flow_members(entry: Entry, router: Router, now: float) -> dict[str, Any]:
    """Return the members that all views of a flow have."""
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
    """Return how a flow on a switch looks."""
    return answers.Flow(**flow_members(entry, router, now), packets=counters.packets, bytes=counters.bytes)


def difference_view(
    found: Difference, installed: Sequence[InstalledFlow], router: Router, limit: int, now: float
) -> answers.Difference:
    """Return how a difference looks, with at most ``limit`` flows of each kind."""
    counters: dict[FlowKey, Counters] = {flow.key: Counters(flow.packets, flow.bytes) for flow in installed}
    return answers.Difference(
        in_sync=found.in_sync,
        missing=[
            answers.MissingFlow(**flow_members(entry, router, now), reason=reason)
            for entry, reason in found.missing[:limit]
        ],
        unexpected=[
            answers.UnexpectedFlow(
                **flow_members(entry, router, now), **counters[entry.flow.key]._asdict(), reason=reason
            )
            for entry, reason in found.unexpected[:limit]
        ],
        different=[
            answers.DifferentFlow(
                answers.DesiredFlow(**flow_members(desired, router, now)),
                flow_view(present, counters[present.flow.key], router, now),
            )
            for desired, present in found.different[:limit]
        ],
        totals=answers.DifferenceTotals(len(found.missing), len(found.unexpected), len(found.different)),
    )
