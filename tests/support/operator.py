# SPDX-License-Identifier: Apache-2.0
"""Run the real `hoaflow` beside the controller under test, as an operator does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.ovs import Ovs
from topologies.waiting import patient

HOAFLOW = str(Path(sys.executable).with_name("hoaflow"))
TIMEOUT = patient(60.0)  # seconds, for any one command


class Said(NamedTuple):
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


class Operator:
    """Runs `hoaflow` in the namespace of `ovs`."""

    def __init__(self, ovs: Ovs) -> None:
        self._ovs = ovs

    def __call__(self, *arguments: str, status: int = 0, environment: Mapping[str, str] = {}) -> Said:
        """Run a command and assert how it ends. Nothing of Python's may show."""
        done = subprocess.run(
            self._ovs.command(HOAFLOW, *arguments),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            env=clean_environment(environment),
        )
        assert done.returncode == status, (arguments, done)
        assert "Traceback" not in done.stderr + done.stdout, done
        return Said(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str, status: int = 0) -> Any:
        """Return the one JSON document that a command prints."""
        return json.loads(self(*arguments, "--json", status=status).out)

    def json_lines(self, *arguments: str) -> list[Any]:
        """Return the JSON objects that a command prints, one a line."""
        return [json.loads(line) for line in self(*arguments, "--json").out.splitlines()]

    def shell(self, script: str, environment: Mapping[str, str] = {}) -> Said:
        """Run lines of bash; `hoaflow` is in its path."""
        path = f"{Path(HOAFLOW).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            self._ovs.command("bash", "--norc", "-c", script),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env=clean_environment({"PATH": path, **environment}),
        )
        assert "Traceback" not in done.stderr + done.stdout, done
        return Said(done.returncode, done.stdout, done.stderr)

    def on_a_terminal(self, *arguments: str, columns: int = 80, environment: Mapping[str, str] = {}) -> str:
        """Return what a command shows on a terminal of that width."""
        command = " ".join([f"stty cols {columns} rows 24;", HOAFLOW, *arguments])
        done = subprocess.run(
            self._ovs.command("script", "--quiet", "--return", "--command", command, "/dev/null"),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            env=clean_environment({"TERM": "xterm", **environment}),
        )
        assert done.returncode == 0, done
        return done.stdout.replace("\r\n", "\n")

    def follow(self, *arguments: str, directory: Path) -> "Follower":
        """Start a command that goes on."""
        return Follower(self._ovs.command(HOAFLOW, *arguments), directory)


class Follower:
    """A command that goes on until it is interrupted. A context manager."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._out, self._err = directory / "follower.out", directory / "follower.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(command, stdout=out, stderr=err, env=clean_environment({}))

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(TIMEOUT)

    @property
    def err(self) -> str:
        """What it has complained of so far."""
        return self._err.read_text()

    @property
    def out(self) -> str:
        """What it has said so far, in whole lines."""
        said, newline, _ = self._out.read_text().rpartition("\n")
        return said + newline

    def wait_for(self, *words: str, timeout: float = TIMEOUT) -> str:
        """Return the first line that has all `words`."""
        deadline = time.monotonic() + timeout
        while True:
            for line in self.out.splitlines():
                if all(word in line for word in words):
                    return line
            assert self._process.poll() is None, (self._process.returncode, self.out.splitlines(), self.err)
            assert time.monotonic() < deadline, f"no line with {words}; it said {self.out} {self.err}"
            time.sleep(0.05)

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit status."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(TIMEOUT)


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process' environment without what would lead the command elsewhere, and with `more`."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("HOAFLOW_", "NO_COLOR"))}
    return {**mine, **more}
