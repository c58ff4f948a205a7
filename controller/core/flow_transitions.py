# SPDX-License-Identifier: Apache-2.0
"""Work out, once for all routers, the changes that lead from one flow unit of a home address to the next."""

from functools import lru_cache

from msgspec import Struct

from controller.core.batches import FlowChange
from controller.core.flow_units import FlowUnit
from controller.core.flows import FlowKey

# How many transitions are remembered: those of the handovers that routers are just following.
LATEST = 16


class Transition(Struct, frozen=True, gc=False):
    """The changes that put ``unit`` in the place of ``former``, in a safe order; None for no unit.

    ``keys``: those of all flows of both. ``leaving``: those of the flows that go.
    """

    former: FlowUnit | None
    unit: FlowUnit | None
    changes: tuple[FlowChange, ...]
    keys: tuple[FlowKey, ...]
    leaving: tuple[FlowKey, ...]


# Cached, as all routers ask one after the other: they share the changes, and the messages that are made of them.
@lru_cache(maxsize=LATEST)
def transition(former: FlowUnit | None, unit: FlowUnit | None) -> Transition:
    """Return the changes from one unit to another of the same home address. What is the same in both stays.

    A unit's flows are in the order in which they may go, and come in the reverse one, before any goes.
    """
    before = () if former is None else former.flows
    after = () if unit is None else unit.flows
    keys = [flow.key for flow in after]
    changes = [FlowChange(flow, True) for flow in reversed(after) if flow not in before]
    leaving = []
    for flow in before:
        if flow.key not in keys:
            leaving.append(flow.key)
            changes.append(FlowChange(flow, False))
    return Transition(former, unit, tuple(changes), (*keys, *leaving), tuple(leaving))
