# SPDX-License-Identifier: Apache-2.0
"""A run with a bridge that numbers its home agent's changes, and reports some of them late."""

from collections import defaultdict, deque

from controller.core.bindings import Binding
from controller.core.flow_changes import FlowChange
from controller.core.flow_keys import leads_to
from controller.core.flows import FlowKey, Kind
from controller.core.home_agents import Status
from controller.core.timeouts import ROUNDING
from hoaflow.addresses import Prefix
from tests.support.core_run import HOME_ADDRESSES, HOME_AGENT, LEASE, PREFIXES, Run
from tests.support.switch_model import Coming


class NumberedRun(Run):
    """Checks, whenever a gate is opened or renewed, that no report is missing in the switch that it stands for."""

    def __init__(self, seed: int) -> None:
        self.last_change = 0
        self.unreported: deque[Binding] = deque()
        # Where the bridge saw each home address, with the number of the change; the ends and numbers of renewals.
        self.seen: defaultdict[Prefix, list[tuple[int, bytes | None]]] = defaultdict(lambda: [(0, None)])
        self.renewals: list[tuple[float, int]] = []
        self.renewed = 0
        super().__init__(seed, flow_backend=True)

    def announce(self) -> None:
        self.renewals.append((self.now + LEASE, self.last_change))
        self.offload.announce(HOME_AGENT, PREFIXES, LEASE, Status.UP, self.now, self.last_change)

    def post(self) -> None:
        for home_address in self.chance.sample(HOME_ADDRESSES, self.chance.choice((1, 1, 2))):
            moved = self.binding(home_address)
            self._see(home_address, moved.care_of_address)
            self.unreported.append(moved)
        if self.offload.home_agents.get(HOME_AGENT) is None or self.chance.random() < 0.3:
            return
        for _ in range(self.chance.choice((1, 100))):
            if not self.unreported:
                self.offload.reported(HOME_AGENT, self.last_change, whole=False, now=self.now)
                break
            self.offload.report(self.unreported.popleft(), self.now)

    def snapshot(self) -> None:
        if self.offload.home_agents.get(HOME_AGENT) is None:
            return
        held = [self.binding(each) for each in HOME_ADDRESSES if self.chance.random() < 0.7]
        where = {each.home_address: each.care_of_address for each in held}
        for home_address in HOME_ADDRESSES:
            self._see(home_address, where.get(home_address))
        self.unreported.clear()
        with self.offload.snapshot(HOME_AGENT, self.now) as snapshot:
            snapshot.take_in(enumerate(held), self.now)
            while not snapshot.complete(self.now):
                self.offload.tick(self.now)
        self.offload.reported(HOME_AGENT, self.last_change, whole=True, now=self.now)

    def _see(self, home_address: Prefix, care_of_address: bytes | None) -> None:
        self.last_change += 1
        self.seen[home_address].append((self.last_change, care_of_address))

    def check_order(self, done: list[FlowChange], coming: Coming, before: set[FlowKey]) -> None:
        super().check_order(done, coming, before)
        for change in done:
            if change.add and change.expires_at is not None:
                self.renewed += 1
                self.check_reported(change.flow.key, change.expires_at)

    def check_reported(self, gate: FlowKey, ends: float) -> None:
        """Check that a gate leads to no flow older than the renewal by which it stands until `ends`."""
        number = next(last_change for lease_ends, last_change in self.renewals if lease_ends >= ends - ROUNDING - 0.01)
        for entry in self.switch.kinds(Kind.DOWNLINK):
            if leads_to(gate, entry.flow.key):
                assert entry.flow.serves is not None
                seen = self.seen[entry.flow.serves]
                then = max(place for place, (change, _) in enumerate(seen) if change <= number)
                assert entry.flow.values[1] in {where for _, where in seen[then:]}, (
                    f"a gate is renewed as of change {number}, with {entry.flow.serves} where it was before"
                )
