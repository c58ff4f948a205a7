# SPDX-License-Identifier: Apache-2.0
"""Provide what all measurements share: one Open vSwitch with hoaflow's bridges and the baselines'.

Nothing is measured here; what is, asks for what it needs, and finds left from before what can be used again.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.support.ovs import Ovs
from tests.support.waiting import wait_for
from tools.benchmarks import processes
from tools.benchmarks.baselines import Reference
from tools.benchmarks.figures import Figure
from tools.benchmarks.generator import Load, Result
from tools.benchmarks.hoaflow import Hoaflow, add_router, switches
from tools.benchmarks.ports import NULL_SERVER, REST
from tools.benchmarks.profile import Profile
from tools.benchmarks.rest import prepared
from tools.benchmarks.ryu import CHECKOUT
from tools.benchmarks.workload import Population

ROUTER = 1  # datapath id of the first router
HOME_AGENT = 0x99  # number of the home agent whose bindings are held
LIFETIME = 3600.0  # seconds: none ends, and none is refreshed but where that is measured
GENERATOR_TIMEOUT = 300.0  # seconds
BINDINGS = "/v1/bindings"  # where one is reported
WAITING = "/v1/bindings?wait=active"  # and answered when it is active
Profiling = Callable[[], AbstractContextManager[None]]  # profiles the controller that runs then
_LAPSE = re.compile(r"event=(lease-lapsed|agent-lost|switch-silent)")


@dataclass(frozen=True, slots=True)
class Plan:
    """Say how much to measure. bindings: held at most. repetitions: of each measurement.

    rate: changes a second. seconds: how long they go on in one repetition. singles: POSTs in one repetition.
    period: seconds in which all bindings are refreshed. soak: handovers after which memory is looked at. profile: also
    what meets its goals.
    """

    bindings: int = 100_000
    repetitions: int = 5
    rate: float = 100.0
    seconds: float = 5.0
    singles: int = 1000
    period: float = 60.0
    soak: int = 500_000
    profile: bool = False

    @property
    def changes(self) -> int:
        """Return the number of handovers in one repetition."""
        return int(self.rate * self.seconds)


class Lab:
    """Start controllers, switches and load on request; all of them end with the context."""

    def __init__(self, directory: Path, plan: Plan, results: Path) -> None:
        """Prepare a lab; `directory` is for temporary files, `results` for profiles to keep."""
        self.directory = directory
        self.plan = plan
        self._results = results
        self.lapses: list[str] = []  # of leases and agents, and renewals that failed
        self._stack = ExitStack()
        self._hoaflow: Hoaflow | None = None
        self._starts = 0
        self._routers: set[int] = set()

    def __enter__(self) -> "Lab":
        try:
            (self.directory / "ovs").mkdir()
            self.ovs = self._stack.enter_context(Ovs(self.directory / "ovs"))
            self.reference = Reference(self.ovs, self.directory)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.end()
        finally:
            self._stack.close()

    def fresh(self, routers: int = 1) -> Hoaflow:
        """Start a controller without home agents, with `routers` switches without flows, and return it."""
        self.end()
        dpids = list(range(ROUTER, ROUTER + routers))
        for dpid in dpids:
            if dpid not in self._routers:
                add_router(self.ovs, dpid)
                self._routers.add(dpid)
        self._starts += 1
        logs = self.directory / f"controller-{self._starts}"
        logs.mkdir()
        started = Hoaflow(self.ovs, logs, dpids)
        self._hoaflow = started.__enter__()
        self.settle()
        return started

    def holding(self, bindings: int) -> tuple[Hoaflow, Population]:
        """Return a controller with one router and `bindings` bindings of one home agent, reusing one that fits."""
        hoaflow = self._hoaflow
        if hoaflow is not None and hoaflow.dpids == [ROUTER]:
            population = hoaflow.populations[0]
            if len(population) == bindings and hoaflow.holds(population):
                return hoaflow, population
        hoaflow, population = self.fresh(), new_population(bindings)
        hoaflow.add(population)
        hoaflow.apply(population)
        self.settle()
        return hoaflow, population

    def settle(self) -> None:
        """Wait until controller and switches are almost idle."""
        processes.settle(switches(self.ovs) if self._hoaflow is None else self._hoaflow.pids)

    def end(self) -> None:
        """End the controller, if any, and note its missed renewals and lapsed leases in `lapses`."""
        if self._hoaflow is not None:
            ending, self._hoaflow = self._hoaflow, None
            ending.__exit__()
            self.lapses += ending.missed_renewals
            self.lapses += [line for line in ending.controller.log.splitlines() if _LAPSE.search(line)]

    def explain(self, figures: list[Figure], name: str, repeat: Callable[[Profiling], object]) -> list[Figure]:
        """Profile a repetition of a measurement whose figure misses its goal, or if the plan asks for profiles.

        The profile is kept, and those figures get its summary as a reason. `repeat` gets the controller ready, then
        measures with the controller in the context that it is given.
        """
        if not self.plan.profile and all(figure.met for figure in figures):
            return figures
        profile = Profile()

        @contextmanager
        def profiling() -> Iterator[None]:
            assert self._hoaflow is not None
            with profile.of(self._hoaflow.controller.pid):
                yield

        try:
            repeat(profiling)
            profile.save(self._results / f"profile-{name}.txt")
            summary = f"the controller's time by file: {profile.summary()}"
        except Exception as error:  # what was measured is kept
            summary = f"no profile: {type(error).__name__}: {error}"
            self.end()
        return [
            replace(figure, reason=f"{figure.reason}; {summary}") if figure.met is False else figure
            for figure in figures
        ]

    def generate(self, load: Load) -> Result:
        """Send a load from the generator's process and return its result."""
        with self.generating(load) as generator:
            return generator.result()

    @contextmanager
    def generating(self, load: Load) -> Iterator["Generator"]:
        """Send a load while the context lasts."""
        generator = Generator(self.ovs, load)
        try:
            yield generator
        finally:
            generator.end()

    def null_result(self, requests: list[str], rate: float | None) -> Result:
        """Return the generator's result against a server that only answers, the generator's own cost."""
        command = self.ovs.command(sys.executable, "-m", "tools.benchmarks.null_server", str(NULL_SERVER))
        process = subprocess.Popen(command, cwd=CHECKOUT)
        try:
            wait_for("the null server listens", lambda: f":{NULL_SERVER} " in self.ovs.run("ss", "-ltnH"))
            return self.generate(Load(NULL_SERVER, requests, rate))
        finally:
            process.kill()
            process.wait()


class Generator:
    """Run the load generator as a process in the namespace of `ovs`."""

    def __init__(self, ovs: Ovs, load: Load) -> None:
        command = ovs.command(sys.executable, "-m", "tools.benchmarks.generator")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=CHECKOUT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self._process.stdin is not None
        json.dump(asdict(load), self._process.stdin)
        self._process.stdin.close()
        self._process.stdin = None

    def wait_started(self) -> None:
        """Wait until the first request is about to be sent."""
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def result(self, stop: bool = False) -> Result:
        """Wait until all requests are answered; `stop` sends no more. Raises RuntimeError if it failed."""
        if stop:
            self._process.send_signal(signal.SIGTERM)
        return self._result(GENERATOR_TIMEOUT)

    def result_within(self, seconds: float) -> Result | None:
        """Return the result as `result` does, None if there is none after so many seconds."""
        try:
            return self._result(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _result(self, timeout: float) -> Result:
        output, errors = self._process.communicate(timeout=timeout)  # after a time-out it can be called again
        if self._process.returncode != 0:
            raise RuntimeError(f"the load generator ended with {self._process.returncode}:\n{errors}")
        return Result(**json.loads(output.splitlines()[-1]))

    def end(self) -> None:
        """Kill the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def new_population(bindings: int, number: int = HOME_AGENT) -> Population:
    """Return a home agent's mobile nodes with lifetimes that outlast the benchmark."""
    return Population(number, bindings, time.monotonic() + LIFETIME)


def posts(population: Population, nodes: list[int], rate: float | None, path: str = BINDINGS, port: int = REST) -> Load:
    """Return a load of one POST for each of these mobile nodes, with lifetimes as of when each is sent."""
    now = time.monotonic()
    bodies = [population.binding(node, now + (index / rate if rate else 0)) for index, node in enumerate(nodes)]
    return Load(port, [prepared("POST", path, body) for body in bodies], rate)
