# SPDX-License-Identifier: Apache-2.0
"""Carry out steps in a lab, and gather what they are judged by."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from hoaflow.errors import HoaflowError
from tools.chaos.acts import Act
from tools.chaos.addresses import CONTROLLERS
from tools.chaos.evidence import DRAIN, Evidence
from tools.chaos.faults import TABLE, places
from tools.chaos.lab import Lab
from tools.chaos.packets import RECORD, unpack
from tools.chaos.schedule import Injected, Moved, Step
from tools.chaos.timeline import RECOVERED, Claim, Disturbance, Move, Objection
from tools.chaos.verdict import all_direct

ASK_EVERY = 1.0  # seconds
CALM = 2.0  # seconds in which all has to be direct before the next step
SETTLES = RECOVERED + 30.0  # seconds that are waited for it: the verdict knows the bound
FAULTS = {each.name: each for each in TABLE}


class Run:
    """One run of steps: what was done, and what was said meanwhile."""

    def __init__(self, lab: Lab, tell: Callable[[str], None]) -> None:
        self._lab, self._tell = lab, tell
        self.moves = [Move(0.0, name, link) for name, link in lab.where.items()]
        self.disturbances: list[Disturbance] = []
        self.claims: list[Claim] = []
        self.settled: list[float] = []
        self.objections: list[Objection] = []
        self.failures: list[str] = []  # acts that could not be done
        self.done: list[tuple[float, Step]] = []  # steps, and when each was begun
        self._ended = threading.Event()
        self._asking = [threading.Thread(target=self._ask, args=(name,), daemon=True) for name in CONTROLLERS]

    def carry_out(self, steps: Iterable[Step], seconds: float, rate: float) -> Evidence:
        """Carry out steps until the time is over or one does not settle; return the evidence."""
        lab = self._lab
        lab.start_traffic(rate)
        for thread in self._asking:
            thread.start()
        gave_up = None if self._settle() else time.time()
        before = lab.inventory()
        deadline = time.monotonic() + seconds
        for step in steps:
            if gave_up is not None or time.monotonic() > deadline:
                break
            self._tell(str(step))
            self.done.append((time.time(), step))
            self._do(step)
            if not self._settle():
                gave_up = time.time()
                self._tell("it does not settle")
            elif step.faults:
                self._agree(step.faults[0].target, max(FAULTS[each.fault].agrees for each in step.faults))
        self._ended.set()
        for thread in self._asking:
            thread.join()
        time.sleep(DRAIN)
        after = lab.inventory()
        lab.bed.stop("wire")
        self.disturbances.sort(key=lambda each: each.start)
        return self._evidence(0.0, before=before, after=after, settled=self.settled, gave_up=gave_up)

    def _do(self, step: Step) -> None:
        begun = time.time()
        started: dict[Injected, float] = {}
        events: list[tuple[float, int, Injected | Moved]] = [(each.after, 0, each) for each in step.moves]
        for each in step.faults:
            events += [(each.after, 1, each), (each.after + each.seconds, 2, each)]
        for after, order, event in sorted(events, key=lambda each: each[:2]):
            time.sleep(max(0.0, begun + after - time.time()))
            if isinstance(event, Moved):
                self._move(event)
            elif order == 1:
                started[event] = time.time()
                self._act(event, FAULTS[event.fault].begin)
            else:
                self._act(event, FAULTS[event.fault].end)
                self._record(event, started[event], time.time())

    def _act(self, event: Injected, act: Act) -> None:
        try:
            act(self._lab, event.target)
        except (HoaflowError, OSError, subprocess.TimeoutExpired) as error:
            self.failures.append(f"{event.fault} ({event.target}) could not be done: {error}")
            self._tell(self.failures[-1])

    def _record(self, event: Injected, start: float, end: float) -> None:
        fault = FAULTS[event.fault]
        record = Disturbance(fault.name, fault.kind, event.target, start, end, fault.loss, places(event.target))
        self.disturbances.append(record)

    def _move(self, event: Moved) -> None:
        node = self._lab.plan.mobile_node(event.node)
        assert node is not None
        if self._lab.where[event.node] != event.link:
            self.moves.append(Move(time.time(), event.node, event.link))
            self._lab.move(node, event.link)

    def _settle(self) -> bool:
        """Wait until all programs serve and all has been direct for a moment; tell whether it was within the time.

        A mobile router or gateway that was killed leaves its tunnels, and sets them up anew when it starts again.
        """
        begun = since = time.time()
        while self._lab.pace().between(begun, time.time()) < SETTLES:
            time.sleep(CALM / 2)
            now = time.time()
            if self._lab.starting:
                since = now
            if now - since > CALM + DRAIN and all_direct(self._evidence(now - CALM - DRAIN - 1.0), now - CALM - DRAIN):
                self.settled.append(now - DRAIN)
                return True
        return False

    def _agree(self, target: str, seconds: float) -> None:
        """Wait until all controllers, and the doctor of a router, say what packets have shown: that all is direct."""
        since, name = time.time(), target.rpartition("-")[2]
        router = name if name in self._lab.plan.routers else self._lab.plan.routers[0]
        before: list[str] = []
        while True:
            found = [text for controller in CONTROLLERS for text in self._lab.objections(controller)]
            found += self._lab.doctors_objections(router)
            if not found:
                if before:
                    self._tell(f"agreed after {time.time() - since:.1f} s; before: {before[0][:200]}")
                return
            before = found
            if self._lab.pace().between(since, time.time()) > seconds:
                self.objections += [Objection(since, text) for text in found]
                self._tell(f"objections: {'; '.join(found)}")
                return
            time.sleep(ASK_EVERY)

    def _evidence(self, since: float, **further: object) -> Evidence:
        """Return what has been gathered; of packets, those since a time, about."""
        lab = self._lab
        records = list(unpack(_tail(lab.records, since)))
        return Evidence(
            lab.plan, lab.points(), records, list(self.disturbances), list(self.moves),
            list(self.claims), pace=lab.pace(), objections=self.objections, **further,  # type: ignore[arg-type]
        )  # fmt: skip

    def _ask(self, controller: str) -> None:
        while not self._ended.wait(ASK_EVERY):
            before = time.time()
            states = self._lab.states(controller)
            now = time.time()
            if states is not None and now - before < ASK_EVERY:
                self.claims += [Claim(now, controller, address, state) for address, state in states.items()]


def _tail(path: Path, since: float) -> bytes:
    """Return a file's records from about a time on."""
    if since == 0.0:
        return path.read_bytes()
    with path.open("rb") as file:
        size = file.seek(0, 2) // RECORD.size * RECORD.size
        chunk, start = 2000 * RECORD.size, size
        data = b""
        while start > 0:
            start = max(0, start - chunk)
            file.seek(start)
            data = file.read(size - start)
            if RECORD.unpack_from(data)[0] < since:
                break
        return data
