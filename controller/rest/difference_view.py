# SPDX-License-Identifier: Apache-2.0
"""How the difference between a switch and what it should have looks in an answer."""

from collections.abc import Sequence

from controller.core.differences import Difference
from controller.core.flows import FlowKey
from controller.core.router import Router
from controller.core.traffic import Counters
from controller.rest import answers, views
from controller.southbound.decoder import InstalledFlow


def difference_view(
    found: Difference, installed: Sequence[InstalledFlow], router: Router, limit: int, now: float
) -> answers.Difference:
    """Show what a switch has at this moment and what it should have; of each kind ``limit`` flows."""
    counters: dict[FlowKey, Counters] = {flow.key: Counters(flow.packets, flow.bytes) for flow in installed}
    return answers.Difference(
        in_sync=found.in_sync,
        missing=[
            answers.MissingFlow(**views.flow_members(entry, router, now), reason=reason)
            for entry, reason in found.missing[:limit]
        ],
        unexpected=[
            answers.UnexpectedFlow(
                **views.flow_members(entry, router, now), **counters[entry.flow.key]._asdict(), reason=reason
            )
            for entry, reason in found.unexpected[:limit]
        ],
        different=[
            answers.DifferentFlow(
                answers.DesiredFlow(**views.flow_members(desired, router, now)),
                views.flow_view(present, counters[present.flow.key], router, now),
            )
            for desired, present in found.different[:limit]
        ],
        totals=answers.DifferenceTotals(len(found.missing), len(found.unexpected), len(found.different)),
    )
