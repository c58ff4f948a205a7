# SPDX-License-Identifier: Apache-2.0
"""A model of a switch: it takes bundles, or flow changes stage by stage, has little room at times, and loses flows."""

import random
from collections import deque

from controller.core.batches import Batch, FlowChange, stages
from controller.core.flows import FlowKey, Kind
from controller.core.installed import Entry
from hoaflow.addresses import Prefix

FULL = "table full"


class Answer:
    """What a switch says to a batch: what it has refused, whether the rest is done, and what it has not been given."""

    def __init__(self, batch: Batch, reasons: dict[int, str], rest_done: bool, unsent: set[int]) -> None:
        self.batch, self.reasons, self.rest_done, self.unsent = batch, reasons, rest_done, unsent


class Coming:
    """A batch on its way, and where bindings were when it was made.

    In a bundle it comes as a whole. Otherwise each of its stages is sent when the one before is done, so that those of
    several batches come in any order.
    """

    def __init__(self, batch: Batch, where: dict[Prefix, bytes], bundle: bool) -> None:
        self.batch, self.where = batch, where
        self.stages = [list(range(len(batch.changes)))] if bundle else stages(batch.changes)


class Switch:
    """It speaks in order: ``says`` are answers, and flows that are gone, each with whether it was evicted."""

    def __init__(self, chance: random.Random, bundles: bool) -> None:
        self.chance = chance
        self.bundles = bundles
        self.flows: dict[FlowKey, Entry] = {}
        self.coming: list[Coming] = []
        self.says: deque[Answer | tuple[FlowKey, bool]] = deque()
        self.room: dict[str, int] = {}
        self.evicts = False
        # Gone without the controller's doing, which may not have heard of it when it did what comes next.
        self.vanished: set[FlowKey] = set()

    def count(self, table: str) -> int:
        """Count a table's flows."""
        return sum(key[0].table == table for key in self.flows)

    def next(self) -> Coming:
        """Return the batch of which something comes next."""
        return self.coming[0] if self.bundles else self.chance.choice(self.coming)

    def work(self, coming: Coming) -> list[FlowChange]:
        """Take the next of a batch; return what was done."""
        batch, places = coming.batch, coming.stages.pop(0)
        before, said, done, reasons = dict(self.flows), list(self.says), [], {}
        for place in places:
            if self._take(batch.changes[place]):
                done.append(batch.changes[place])
                continue
            reasons[place] = FULL
            if self.bundles:
                self.flows, self.says, done = before, deque(said), []
                break
        if reasons or not coming.stages:
            self.coming.remove(coming)
            unsent = {place for stage in coming.stages for place in stage}
            self.says.append(Answer(batch, reasons, not self.bundles, unsent))
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
        self.flows[key] = Entry(change.flow, change.expires_at)
        return True

    def lose(self, key: FlowKey, evicted: bool = False) -> None:
        """Lose a flow and say so."""
        del self.flows[key]
        self.vanished.add(key)
        self.says.append((key, evicted))

    def kinds(self, kind: Kind) -> list[Entry]:
        """Return the flows of a kind."""
        return [entry for entry in self.flows.values() if entry.flow.kind is kind]
