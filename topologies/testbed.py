# SPDX-License-Identifier: Apache-2.0
"""Bring a topology up in a sandbox, to run programs in and change links of.

with Testbed(RoamingTopo(), Path("build/logs")) as bed:
    bed.run("ping", "-c", "3", HOME_ADDRESS, node="cn")
"""

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from mininet.log import lg
from mininet.net import Mininet

from topologies import addresses as at
from topologies.base import MobilityTopo
from topologies.nodes import Device, LaterController
from topologies.processes import Process, ProcessError
from topologies.sandbox import Sandbox
from topologies.waiting import patient

CHECKOUT = Path(__file__).parents[1]
COMMAND_TIMEOUT = patient(60.0)  # seconds
ERROR = re.compile(r"\b(ERROR|CRITICAL)\b|Traceback \(most recent call last\)|\|(ERR|EMER)\|")


class Testbed:
    """Run a network while the context lasts; only one per process at a time, entered from the main thread."""

    __test__ = False  # pytest: a class called Test… that is none

    def __init__(self, topology: MobilityTopo, logs: Path) -> None:
        """Prepare the network; all programs log into the directory `logs`, created if missing."""
        self.topology = topology
        self.logs = logs
        self.programs: dict[str, Process] = {}
        self._ended: list[Process] = []
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> "Testbed":
        """Bring the network up. Raises OSError, ProcessError, TopologyError, subprocess.CalledProcessError."""
        self.logs.mkdir(parents=True, exist_ok=True)
        lg.setLogLevel("error")
        with contextlib.ExitStack() as stack:
            stack.enter_context(Sandbox())
            for switch in self.topology.switches():
                self.topology.nodeInfo(switch)["logs"] = self.logs
            controller = partial(LaterController, ip=at.MANAGEMENT_ROOT, port=at.OPENFLOW_PORT)
            self.network = Mininet(topo=self.topology, controller=controller, build=False)
            stack.callback(self.network.stop)
            self.network.build()
            self.network.start()
            stack.callback(self.stop_all)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.__exit__(kind, error, trace)

    def namespace(self, node: str) -> str:
        """Return the /proc path of NODE's network namespace, as setns(2) takes it."""
        return f"/proc/{self.network[node].pid}/ns/net"

    def _enter(self, node: str | None) -> list[str]:
        return [] if node is None else ["mnexec", "-a", str(self.network[node].pid)]

    @property
    def devices(self) -> list[Process]:
        """Return the processes that are the network itself: Open vSwitch on each router, and delay lines."""
        switches: list[Device] = self.network.switches
        return [process for switch in switches for process in switch.processes]

    def start(self, name: str, command: Sequence[str], node: str | None = None) -> Process:
        """Start a long-running program in NODE, by default in the root namespace, where the controller runs.

        Raises OSError when it cannot be started, ValueError when one of that name runs already.
        """
        if name in self.programs:
            raise ValueError(f"{name} runs already; stop it first")
        process = Process(name, command, self.logs / f"{name}.log", self._enter(node), CHECKOUT)
        self.programs[name] = process
        return process

    def run(self, *command: str, node: str | None = None, stdin: str = "", timeout: float = COMMAND_TIMEOUT) -> str:
        """Run a command in NODE, by default in the root namespace, and return its standard output.

        Raises ProcessError when it fails, with what it said; subprocess.TimeoutExpired.
        """
        result = subprocess.run(
            [*self._enter(node), *command],
            cwd=CHECKOUT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if result.returncode:
            said = (result.stderr + result.stdout).strip()
            raise ProcessError(f"{' '.join(command)} (in {node or 'root'}): exit status {result.returncode}: {said}")
        return result.stdout

    def stop(self, name: str) -> None:
        """End a program by SIGTERM. Raises ProcessError if it does not end, or ends with an error."""
        process = self.programs.pop(name)
        self._ended.append(process)
        if (status := process.stop()) not in (0, -signal.SIGTERM):
            raise ProcessError(f"{name} ended with exit status {status}.{process.last_lines()}")

    def kill(self, name: str) -> None:
        """Kill a program (SIGKILL), as a crash would."""
        process = self.programs.pop(name)
        self._ended.append(process)
        process.kill()

    def stop_all(self) -> None:
        """Send SIGTERM to all running programs, then wait for each. Raises ProcessError."""
        for process in self.programs.values():
            process.send(signal.SIGTERM)
        with contextlib.ExitStack() as stack:  # one that fails to end does not keep the others from it
            for name in list(self.programs):
                stack.callback(self.stop, name)

    def set_link(self, node: str, interface: str, up: bool) -> None:
        """Set an interface of NODE up or down. Raises ProcessError."""
        self.run("ip", "link", "set", "dev", interface, "up" if up else "down", node=node)

    def errors(self, allow: Iterable[str] = (), allow_after: Iterable[str] = ()) -> list[str]:
        """Return the log lines that report an error, and a line for each program that ended by itself.

        Lines that match a regular expression of ALLOW are left out, and so are those after one that matches one of
        ALLOW_AFTER.
        """
        allowed = [re.compile(pattern) for pattern in allow]
        introductions = [re.compile(pattern) for pattern in allow_after]
        found = []
        for process in [*self.devices, *self.programs.values(), *self._ended]:
            for before, line in pairwise(["", *process.lines]):
                if not ERROR.search(line) or any(pattern.search(line) for pattern in allowed):
                    continue
                if not any(pattern.search(before) for pattern in introductions):
                    found.append(f"{process.name}: {line}")
            if not process.running and not process.expected_end:
                found.append(f"{process.name} ended by itself.{process.last_lines()}")
        return found
