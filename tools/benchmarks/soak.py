# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.benchmarks.soak`: let controller, switch and bridge run for long, and see that nothing grows.

The controller, Open vSwitch and `ha-bridge` are real. The home agent is a binding cache behind UMIP's terminal, in
which mobile nodes move, leave and come back at a constant rate, and the tunnel agent is played. Whenever samples are
taken, mobile nodes rest, and the switch has been seen to send to each of them where it is. Needs root (`make soak`).
"""

import argparse
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

from controller.core.update_history import UPDATES_KEPT
from hoaflow.addresses import canonical_address
from tests.support.bridge import Bridge, Terminal, bridge, entry
from tests.support.logs import errors_in
from tests.support.ovs import Ovs
from tools.benchmarks import report
from tools.benchmarks.cluster.watching import DOWNLINK, GATES, TO_CARE_OF_ADDRESS, FlowWatch
from tools.benchmarks.figures import Figure
from tools.benchmarks.hoaflow import MISSES, UNMARK, Hoaflow, add_router, switches
from tools.benchmarks.hoaflow import bridge as router
from tools.benchmarks.lab import HOME_AGENT, ROUTER, new_population
from tools.benchmarks.memory_soak import GOAL, SAMPLES, SEED, SETTLED, growth_of
from tools.benchmarks.ports import REST
from tools.benchmarks.processes import descriptors, resident_bytes, threads
from tools.benchmarks.switch import dump
from tools.benchmarks.workload import FLOWS_PER_BINDING, Population
from tools.chaos.pace import Pace, load
from tools.demo.interruption import Interrupted, raise_interrupted

HANDOVERS_AN_HOUR = 2_000_000
NODES = 4000
AT_HOME = 0.02  # part of the mobile nodes, others each time
POLL = 0.5  # seconds between two readings of the binding cache
LIFETIME = 60  # seconds; each of them moves many times before
SETTLING = 60.0  # seconds, for the switch to have what the binding cache has
# Handovers of each mobile node, on average, before the first sample is due. The controller keeps the last few updates
# of each home address: until there have been as many of each, its memory grows. Mobile nodes move at random, so that
# after as many on average a seventh of the updates is still to come, after twice as many 0.2 %.
WARMING = 2 * UPDATES_KEPT
LEASE = 10.0  # seconds: a gate stands so long without being renewed
FAILED, MISSED = 1, 3  # exit status, as those of `make bench`


@dataclass(frozen=True, slots=True)
class Kind:
    """Say how a kind of sample is shown, and how far it may rise: by a part of the first tenth's, or by so many more.

    That is what a few objects or an idle connection take; a leak is more.
    """

    words: str
    part: float
    more: float
    unit: int = 1


KINDS = {
    "bytes": Kind("MiB resident", GOAL, 2 << 20, 2**20),
    "descriptors": Kind("descriptors", 0, 4),
    "threads": Kind("threads", 0, 2),
    "flows": Kind("flows", 0, 0),
    "logged": Kind("bytes logged for a handover", 0.25, 16),
}
# The harness' own connections for management, which answer no probes while they are not used.
_OWN_CONNECTIONS = r"rconn\|ERR\|\w+<->unix#"
_LAPSE = re.compile(r"event=(lease-lapsed|agent-lost|switch-silent|lease-not-confirmed)")


@dataclass(frozen=True, slots=True)
class Plan:
    """Say how long to run, in minutes, and how many of `nodes` mobile nodes move in an hour."""

    minutes: float
    nodes: int
    handovers_an_hour: int

    @property
    def rate(self) -> float:
        """Return the handovers a second."""
        return self.handovers_an_hour / 3600


class RoamingCache:
    """A home agent's binding cache, as UMIP shows it. Mobile nodes have moved on each time that it is read."""

    def __init__(self, population: Population, rate: float) -> None:
        """Let `rate` mobile nodes move a second, once `roam` has been called."""
        self._population, self._rate = population, rate
        self._chance = random.Random(SEED)
        self._at_home: set[int] = set()
        self._since: float | None = None  # until when all have moved that had to; None: they rest
        self._stopping = Event()
        self._resting = Event()
        self.handovers = 0

    def roam(self) -> None:
        """Let mobile nodes move from now on."""
        self._stopping.clear()
        self._resting.clear()
        self._since = time.monotonic()

    def rest(self) -> None:
        """Wait until the next reading; after that one, all are at foreign links and stay there. Raises TimeoutError."""
        self._stopping.set()
        if not self._resting.wait(SETTLING):
            raise TimeoutError(f"the bridge has not read the binding cache for {SETTLING:g} s")

    def shown(self) -> str:
        """Return what the terminal shows now."""
        if (since := self._since) is not None:
            due = min(int(self._rate * (time.monotonic() - since)), len(self._population) // 2)
            self._since = since + due / self._rate
            self._move(due)
        text = "".join(self._entry(node) for node in range(len(self._population)) if node not in self._at_home)
        if self._stopping.is_set():
            self._since, self._at_home = None, set()
            self._resting.set()
        return text

    def care_of_addresses(self) -> set[str]:
        """Return where mobile nodes are."""
        now = time.monotonic()
        return {
            canonical_address(str(self._population.binding(node, now)["care_of_address"]))
            for node in range(len(self._population))
        }

    def _move(self, count: int) -> None:
        nodes = range(len(self._population))
        before, self._at_home = self._at_home, set(self._chance.sample(nodes, int(AT_HOME * len(nodes))))
        # The others register anew, or deregister.
        moving = self._chance.sample([node for node in nodes if node not in before | self._at_home], count)
        self._population.move(moving)
        self.handovers += count

    def _entry(self, node: int) -> str:
        binding = self._population.binding(node, time.monotonic())
        home, care_of = str(binding["home_address"]), str(binding["care_of_address"])
        return entry(home, care_of, LIFETIME, LIFETIME, int(str(binding["sequence"])))


class Soak:
    """The running system, and what has been seen of it."""

    def __init__(self, directory: Path, plan: Plan, parts: ExitStack) -> None:
        """Start everything; `parts` ends it."""
        self._plan = plan
        (directory / "ovs").mkdir()
        self._beats = directory / "beats"
        command = [sys.executable, "-m", "tools.chaos.pulse", str(self._beats)]
        # In a session of its own, as Ctrl-C is for whoever ends it.
        pulse = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        parts.enter_context(pulse)
        parts.callback(pulse.terminate)
        # Of the bridge, the lines are kept. A handover is one line of the controller's.
        self._log_files = {
            "controller": directory / "controller.log",
            "ovs-vswitchd": directory / "ovs/ovs-vswitchd.log",
        }
        self._ovs = parts.enter_context(Ovs(directory / "ovs"))
        add_router(self._ovs, ROUTER)
        self._hoaflow = parts.enter_context(Hoaflow(self._ovs, directory, [ROUTER]))
        self._cache = RoamingCache(new_population(plan.nodes), plan.rate)
        with self._ovs.inside():
            listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        terminal = Terminal(self._cache.shown, listener=listener)
        parts.callback(terminal.close)
        self._bridge: Bridge = parts.enter_context(
            bridge(
                *("--controller", f"http://127.0.0.1:{REST}", "--console", f"127.0.0.1:{terminal.port}"),
                *("--home-prefix", f"2001:db8:{HOME_AGENT:x}::/64", "--no-netlink", "--poll", str(POLL)),
                command=tuple(self._ovs.command()),
            )
        )
        self._processes = {
            "controller": self._hoaflow.controller.pid,
            "ha-bridge": self._bridge.process.pid,
            **switches(self._ovs),
        }
        self.samples: dict[str, list[float]] = {}
        self._logged: dict[str, int] = {}
        self._before = 0  # handovers before the first sample was due
        self._counted = 0  # handovers up to the last sample
        self._settle()
        self._watch = FlowWatch(self._ovs, [ROUTER], [GATES])
        parts.callback(self._watch.end)

    def run(self, told: Callable[[str], None]) -> None:
        """Let mobile nodes move, and take SAMPLES samples, evenly spread. Raises TimeoutError if one can't be taken."""
        self._warm_up()
        self._logged = self._logs()
        self._before = self._counted = self._cache.handovers
        each = 60 * self._plan.minutes / SAMPLES
        for number in range(SAMPLES):
            self._cache.roam()
            time.sleep(each)
            self._cache.rest()
            self._settle()
            self._sample()
            seen = ", ".join(f"{name} {values[-1]}" for name, values in self.samples.items())
            told(f"{number + 1}/{SAMPLES}: {self._cache.handovers - self._before} handovers; {seen}")

    def figures(self) -> list[Figure]:
        """Return what became of it."""
        handovers = self._cache.handovers - self._before
        wanted = int(self._plan.minutes / 60 * self._plan.handovers_an_hour)
        lapses, errors = self._complaints()
        return [
            _counted("handovers", handovers, f"≥ {wanted}", handovers >= wanted),
            _counted("gates closed", len(self._watch.closed), "0", not self._watch.closed, self._closings()),
            _counted("leases lapsed", len(lapses), "0", not lapses, lapses),
            _counted("renewals of the agent missed", len(self._hoaflow.missed_renewals), "0",
                     not self._hoaflow.missed_renewals, self._hoaflow.missed_renewals),
            _counted("errors logged", len(errors), "0", not errors, errors),
            *(flatness(name, values) for name, values in self.samples.items()),
        ]  # fmt: skip

    def _warm_up(self) -> None:
        """Let mobile nodes move until memory holds what it holds in the long run.

        Raises TimeoutError if none of them moves.
        """
        self._cache.roam()
        while (handovers := self._cache.handovers) < WARMING * self._plan.nodes:
            deadline = time.monotonic() + SETTLING
            while self._cache.handovers == handovers:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the bridge has not read the binding cache for {SETTLING:g} s")
                time.sleep(POLL)

    def _settle(self) -> None:
        """Wait until the switch sends to each mobile node where it is, and has no other flows of bindings.

        Raises TimeoutError, which says what it has instead.
        """
        wanted, deadline = self._cache.care_of_addresses(), time.monotonic() + SETTLING
        while (lacking := self._lacking(wanted)) is not None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {SETTLING:g} s of rest {lacking}")
            time.sleep(POLL)

    def _lacking(self, wanted: set[str]) -> str | None:
        expected = MISSES + UNMARK + FLOWS_PER_BINDING * self._plan.nodes
        found = [flow for flow in dump(self._ovs, router(ROUTER)).flows if ",table=0," not in flow]
        downlink = f",table={DOWNLINK},"
        sent_to = {to[1] for flow in found if downlink in flow and (to := TO_CARE_OF_ADDRESS.search(flow)) is not None}
        if len(found) == expected and sent_to == wanted:
            return None
        wrong = len(sent_to - wanted)
        return f"the switch has {len(found)} flows, expected {expected}, and sends to {wrong} wrong care-of addresses"

    def _sample(self) -> None:
        for name, pid in self._processes.items():
            for kind, read in (("bytes", resident_bytes), ("descriptors", descriptors), ("threads", threads)):
                self.samples.setdefault(f"{name}: {kind}", []).append(read(pid))
        self.samples.setdefault("ovs-vswitchd: flows", []).append(len(dump(self._ovs, router(ROUTER)).flows))
        logged, handovers = self._logs(), self._cache.handovers
        for name, size in logged.items():
            each = (size - self._logged[name]) / (handovers - self._counted)
            self.samples.setdefault(f"{name}: logged", []).append(round(each, 1))
        self._logged, self._counted = logged, handovers

    def _complaints(self) -> tuple[list[str], list[str]]:
        """Return the logs' lines on lapses, and those that report an error."""
        lapses, errors = [], []
        with ExitStack() as files:
            logs = [files.enter_context(path.open(errors="replace")) for path in self._log_files.values()]
            for line in chain(self._bridge.lines, *logs):  # line by line: an hour's are hundreds of megabytes
                if _LAPSE.search(line):
                    lapses.append(line)
                errors += errors_in(line, allow=[_OWN_CONNECTIONS])
        return lapses, errors

    def _closings(self) -> list[str]:
        """Return of each gate that closed how long programs went on in the lease before, and Open vSwitch's line."""
        pace = Pace(load(self._beats.read_text()))
        ahead = time.time() - time.monotonic()
        return [
            f"programs had {pace.between(at + ahead - LEASE, at + ahead):.1f} s of the {LEASE:g} s before: {line}"
            for at, line in self._watch.closed
        ]

    def _logs(self) -> dict[str, int]:
        """Return how much each part has logged so far, in bytes."""
        sizes = {name: path.stat().st_size for name, path in self._log_files.items()}
        return {**sizes, "ha-bridge": sum(len(line) + 1 for line in list(self._bridge.lines))}


def flatness(name: str, samples: list[float]) -> Figure:
    """Judge samples of one thing: those after the first tenth may be a little above them, for no leak is so small."""
    part, _, key = name.partition(": ")
    kind, first, later = KINDS[key], max(samples[:SETTLED]), max(samples[SETTLED:])
    limit = max(first * (1 + kind.part), first + kind.more)
    return Figure(
        f"{part}: {kind.words}",
        f"at most {later / kind.unit:.4g} ({100 * growth_of(samples):+.1f} %)",
        f"at first {first / kind.unit:.4g}",
        f"≤ {limit / kind.unit:.4g}",
        later <= limit,
        f"samples: {samples}",
        {"samples": samples},
    )


def _counted(name: str, count: int, goal: str, met: bool, what: Any = ()) -> Figure:
    return Figure(name, str(count), goal=goal, met=met, reason=f"the first of them: {list(what)[:3]}")


def main(argv: list[str] | None = None) -> int:
    """Run the soak; return 0 if nothing has grown and no lease lapsed, MISSED, FAILED, or 128 + N after signal N."""
    plan, output = _arguments(argv)
    if os.geteuid() != 0:
        print("make soak makes a network namespace: run it as root", file=sys.stderr)
        return FAILED
    raise_interrupted()
    try:
        with TemporaryDirectory(prefix="hoaflow-soak-") as directory, ExitStack() as parts:
            soak = Soak(Path(directory), plan, parts)
            soak.run(lambda text: print(text, flush=True))
            figures = soak.figures()
    except Interrupted as interrupted:
        print(f"\n{interrupted}: ended, and cleaned up", file=sys.stderr)
        return interrupted.status
    except TimeoutError as error:
        print(f"failed: {error}", file=sys.stderr)
        return FAILED
    output.parent.mkdir(parents=True, exist_ok=True)
    report.write(output, {"machine": report.machine(), "minutes": plan.minutes, "nodes": plan.nodes}, figures)
    print(f"\n{report.table(figures)}\n\nevery sample: {output}")
    return MISSED if any(figure.met is False for figure in figures) else 0


def _arguments(argv: list[str] | None) -> tuple[Plan, Path]:
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long mobile nodes move (%(default)s)")
    parser.add_argument("--nodes", type=int, default=NODES, help="mobile nodes (%(default)s)")
    parser.add_argument("--rate", type=int, default=HANDOVERS_AN_HOUR, help="handovers an hour (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/soak.json"), help="(%(default)s)")
    arguments = parser.parse_args(argv)
    return Plan(arguments.minutes, arguments.nodes, arguments.rate), arguments.output


if __name__ == "__main__":
    sys.exit(main())
