# SPDX-License-Identifier: Apache-2.0
"""Run `ryu-manager` with hoaflow's app or another one; all are started alike."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

CHECKOUT = Path(__file__).parents[2]
TIMEOUT = 60.0  # seconds, for it to start and to end


class RyuManager:
    """Run `ryu-manager` with one app in the namespace of `ovs`; it can be killed and started again."""

    def __init__(
        self, ovs: Ovs, log: Path, app: str, openflow_port: int, rest_port: int, ready: Callable[[], bool]
    ) -> None:
        """Prepare the command. log: file to append to. app: a module's name, or a file's in the checkout.

        ready: tells whether it may be used; may raise OSError as long as it does not listen.
        """
        self._ovs = ovs
        self._log = log
        self._command = [
            str(Path(sys.executable).with_name("ryu-manager")),
            *("--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", str(openflow_port)),
            *("--wsapi-host", "127.0.0.1", "--wsapi-port", str(rest_port), app),
        ]
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process id. Raises RuntimeError if it is not running."""
        if self._process is None:
            raise RuntimeError(f"{self._command[-1]} is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """Return the text of the log file."""
        return self._log.read_text()

    def start(self) -> None:
        """Start the process and wait until it is ready. Raises TimeoutError, RuntimeError."""
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}  # where the apps of the benchmark are found
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._ovs.command(*self._command), cwd=CHECKOUT, env=environment, stdout=log, stderr=log
            )
        try:
            wait_for(f"{self._command[-1]} is ready", self._is_ready, TIMEOUT)
        except BaseException:
            self.kill()
            raise

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the process by signal `number`; does nothing if it is not running."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(TIMEOUT)
            self._process = None

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._command[-1]} ended with {self._process.returncode}:\n{self.log}")
        with contextlib.suppress(OSError):
            return self._ready()
        return False
