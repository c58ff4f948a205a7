# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch's database and userspace datapath, started in a sandbox, where no other can be met."""

import subprocess
from pathlib import Path
from types import TracebackType

from topologies.processes import Process

RUN_DIRECTORY = Path("/run/openvswitch")  # where Open vSwitch's own tools, and so Mininet, look
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
START_TIMEOUT = 20.0


class PrivateOvs:
    """Context manager, to be entered inside a `Sandbox`: a running Open vSwitch with an empty database."""

    def __init__(self, logs: Path) -> None:
        """logs: existing directory for the log files."""
        self.logs = logs
        self.processes: list[Process] = []

    def __enter__(self) -> "PrivateOvs":
        """Raises: FileNotFoundError, subprocess.CalledProcessError, topologies.processes.ProcessError."""
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        database, socket = RUN_DIRECTORY / "conf.db", RUN_DIRECTORY / "db.sock"
        subprocess.run(["ovsdb-tool", "create", database, SCHEMA], check=True, timeout=START_TIMEOUT)
        self._daemon("ovsdb-server", [str(database), f"--remote=punix:{socket}"])
        # --no-wait: ovs-vswitchd, which would acknowledge, starts afterwards.
        vsctl = ["ovs-vsctl", f"--timeout={START_TIMEOUT:g}", "--retry", "--no-wait", "init"]
        subprocess.run(vsctl, check=True, timeout=START_TIMEOUT)
        switchd = self._daemon("ovs-vswitchd", [f"unix:{socket}", "--disable-system"])
        switchd.wait_for(r"ovs-vswitchd \(Open vSwitch\) ", START_TIMEOUT)

    def _daemon(self, name: str, arguments: list[str]) -> Process:
        """In the foreground, i.e. as this process's child, so that it cannot outlive it."""
        process = Process(name, [name, *arguments, "--pidfile"], self.logs / f"{name}.log")
        self.processes.append(process)
        return process

    def _stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()
