# SPDX-License-Identifier: Apache-2.0
"""A run in which much happens while a controller compares what a switch has with what it should have."""

from collections.abc import Callable
from typing import Any

from controller.core.first_reading import FirstReading
from tests.support.core_run import DPID, PORTS, Run
from tests.support.told_flows import tell


class ComparingRun(Run):
    """Breaks the connection often, and lets anything happen between the steps of the comparison that follows."""

    def __init__(self, seed: int, flow_backend: bool) -> None:
        self.changes = 0
        super().__init__(seed, flow_backend)

    def read(self) -> None:
        if self.switch.coming or self.switch.says:
            return
        reading = self.offload.switches.begin_reading(DPID, self.now)
        tell(reading, self.switch.flows.values())
        if isinstance(reading, FirstReading):
            self.router.set_ports(PORTS, self.now)
            while reading.compare(self.now):
                for _ in range(self.chance.choice((0, 1, 2, 4))):
                    self.changes += 1
                    self.happen(self.MEANWHILE)
        self.offload.switches.connect(DPID, PORTS, self.now)

    def hear(self) -> None:
        if self.router.switch.connected:
            super().hear()
        elif self.switch.says:
            said = self.switch.says.popleft()
            assert isinstance(said, tuple), "it was asked for nothing"
            self.router.flows.flow_removed(said[0], self.now, evicted=said[1])

    MEANWHILE: tuple[tuple[Callable[[Any], None], int], ...] = (
        (Run.post, 12), (hear, 6), (Run.somebody_deletes, 4), (Run.agent, 4), (Run.announce, 4), (Run.pass_time, 4),
        (Run.snapshot, 3), (Run.deregister, 3), (Run.drain, 1),
    )  # fmt: skip
    STEPS: tuple[tuple[Callable[[Any], None], int], ...] = (*Run.STEPS, (Run.reconnect, 20))
