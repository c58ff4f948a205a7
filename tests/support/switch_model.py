# SPDX-License-Identifier: Apache-2.0
"""A model of a switch: it takes bundles, or flow changes stage by stage, has little room at times, and loses flows."""

import random
from collections import deque

from controller.core.batches import Batch
from controller.core.flow_changes import FlowChange, stages
from controller.core.flows import FlowKey, Kind
from controller.core.installed import FlowEntry

FULL = "table full"


class Answer:
    """What a switch says to a batch: what it has refused, whether the rest is done, and what it has not been given."""

    def __init__(self, batch: Batch, reasons: dict[int, str], rest_done: bool, unsent: set[int]) -> None:
        self.batch, self.reasons, self.rest_done, self.unsent = batch, reasons, rest_done, unsent


class Coming:
    """A batch on its way, in which step it was made, and in which each gate in it was asked for.

    In a bundle it comes as a whole. Otherwise each of its stages is sent when the one before has been answered.
    """

    def __init__(self, batch: Batch, made: int, asked: dict[FlowKey, int], bundle: bool) -> None:
        self.batch, self.made, self.asked = batch, made, asked
        self.changes = batch.changes
        self.stages = [list(range(len(self.changes)))] if bundle else stages(self.changes)


class Switch:
    """A switch that takes what comes in order, and speaks in order.

    ``says`` has answers; batches of which a stage is done, so that the next may come; and flows that are gone, each
    with whether it was evicted.
    """

    def __init__(self, chance: random.Random, bundles: bool) -> None:
        self.chance = chance
        self.bundles = bundles
        self.flows: dict[FlowKey, FlowEntry] = {}
        self.coming: deque[Coming] = deque()
        self.says: deque[Answer | Coming | tuple[FlowKey, bool]] = deque()
        self.room: dict[str, int] = {}
        self.evicts = False
        # Gone without the controller's doing, which may not have heard of it when it did what comes next.
        self.vanished: set[FlowKey] = set()

    def count(self, table: str) -> int:
        """Count a table's flows."""
        return sum(key[0].table == table for key in self.flows)

    def work(self) -> list[FlowChange]:
        """Take what comes next; return what was done."""
        coming = self.coming.popleft()
        batch, places = coming.batch, coming.stages.pop(0)
        before, said, done, reasons = dict(self.flows), list(self.says), [], {}
        for place in places:
            if self._take(coming.changes[place]):
                done.append(coming.changes[place])
                continue
            reasons[place] = FULL
            if self.bundles:
                self.flows, self.says, done = before, deque(said), []
                break
        if reasons or not coming.stages:
            unsent = {place for stage in coming.stages for place in stage}
            self.says.append(Answer(batch, reasons, not self.bundles, unsent))
        else:
            self.says.append(coming)
        return done

    def _take(self, change: FlowChange) -> bool:
        key, table = change.flow.key, change.flow.table
        if not change.add:
            self.flows.pop(key, None)
            return True
        if key not in self.flows and self.count(table) >= self.room.get(table, 1000):
            victims = [each for each in self.flows if each[0].table == table]
            if not self.evicts or not victims:
                return False
            self.lose(self.chance.choice(victims), evicted=True)
        is_gate = change.flow.kind is Kind.GATE
        assert is_gate == (change.hard_timeout > 0) == (change.expires_at is not None), "gates end, and only they"
        self.flows[key] = FlowEntry(change.flow, change.expires_at)
        return True

    def lose(self, key: FlowKey, evicted: bool = False) -> None:
        """Lose a flow and say so."""
        del self.flows[key]
        self.vanished.add(key)
        self.says.append((key, evicted))

    def kinds(self, kind: Kind) -> list[FlowEntry]:
        """Return the flows of a kind."""
        return [entry for entry in self.flows.values() if entry.flow.shape.kind is kind]
