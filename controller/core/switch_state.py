# SPDX-License-Identifier: Apache-2.0
"""What is known of one switch: the flows that it has, that it has refused, and that are on their way to it."""

from controller.core.flows import FlowKey
from controller.core.installed import FlowEntry, InstalledFlows
from controller.core.refused_flows import RefusedFlows
from controller.core.switch_work import SwitchWork


class SwitchState:
    """One switch's flows as far as they are known, and those that it needs for no binding in particular.

    ``required`` are desired and outlive a connection; all else is forgotten with it.
    """

    def __init__(self) -> None:
        self.installed = InstalledFlows()
        self.refused = RefusedFlows()
        self.work = SwitchWork()
        # Misses, guards, gates: a few.
        self.required: dict[FlowKey, FlowEntry] = {}

    def clear(self) -> None:
        """Forget what was known of the switch."""
        self.installed.clear()
        self.refused.clear()
        self.work.clear()

    def is_going(self, key: FlowKey) -> bool:
        """Tell whether the deletion of the flow with this key is on its way."""
        under_way = self.work.changes_of(key)
        return under_way is not None and not under_way.adds(key)

    def is_active(self, key: FlowKey, now: float) -> bool:
        """Tell whether the required flow with this key is installed as desired, and is not about to go."""
        desired = self.required.get(key)
        return desired is not None and not self.is_going(key) and self.installed.has(desired.flow, now)
