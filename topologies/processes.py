# SPDX-License-Identifier: Apache-2.0
"""Run the long-lived programs of an emulation: start them in nodes, log them, await their events, end them."""

import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from hoaflow.errors import HoaflowError
from topologies.waiting import patient

END_GRACE = patient(30.0)  # seconds
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)


class ProcessError(HoaflowError):
    """A program ended early, or did not print what was awaited in time; the message has its last lines."""


class Line(str):
    """Hold a line of output without its newline; `at` is when it arrived, as time.time()."""

    at: float


class Process:
    """Run a program, log its stdout and stderr line by line, and wait for lines that match a pattern.

    It must be started from the main thread: it is killed when the thread that started it ends, so that
    nothing is left behind even where this process is killed itself.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        enter: Sequence[str] = (),
        directory: Path | None = None,
    ) -> None:
        """Start the program. Raises OSError if it cannot be started.

        `name`: for messages. `log`: file to append to. `enter`: command prefix that enters the node to run in.
        `directory`: to run it in.
        """
        self.name = name
        self.log = log
        self.lines: list[Line] = []
        self.expected_end = False
        self._changed = threading.Condition()
        self._popen = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *enter, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C on the terminal is for whoever ends the processes in order
            cwd=directory,
        )
        assert self._popen.stdout is not None
        # A daemon, for a signal may interrupt whoever starts this before anybody knows it and could stop it: the
        # interpreter would wait for its output to end, and the program, to be killed, for the interpreter.
        self._reader = threading.Thread(
            target=self._read, args=(self._popen.stdout,), name=f"log of {name}", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """Return the process id, which is the program's own: what precedes it in the command replaces itself."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Return whether the program has not ended."""
        return self._popen.poll() is None

    def _read(self, output: IO[bytes]) -> None:
        with open(self.log, "ab", buffering=0) as log, output:
            for raw in output:
                line = Line(raw.decode(errors="replace").rstrip("\r\n"))
                line.at = time.time()
                log.write(raw)
                with self._changed:
                    self.lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def mark(self) -> int:
        """Return the number of lines so far; `wait_for(after=…)` then ignores them."""
        return len(self.lines)

    def wait_for(self, pattern: str, timeout: float, after: int = 0) -> re.Match[str]:
        """Return the first match of PATTERN in the output from line `after` on.

        Waits for it up to TIMEOUT seconds, adapted to the machine; `match.string` is the Line.

        Raises ProcessError when the program ends or the time passes without one.
        """
        wanted, limit = re.compile(pattern), patient(timeout)
        deadline = time.monotonic() + limit
        seen = after
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if match := wanted.search(line):
                        return match
                seen = len(self.lines)
                remaining = deadline - time.monotonic()
                if not self._reader.is_alive():
                    raise ProcessError(f"{self.name} ended while {pattern!r} was awaited.{self.last_lines()}")
                if remaining <= 0:
                    raise ProcessError(f"{self.name}: no {pattern!r} in {limit:g} s.{self.last_lines()}")
                self._changed.wait(min(remaining, 0.5))

    def printed(self, pattern: str) -> bool:
        """Tell whether a line of the output so far matches a pattern."""
        return any(re.search(pattern, line) for line in self.lines[:])

    def last_lines(self, count: int = 5) -> str:
        """Return the last lines of output, indented, to append to an error message."""
        return "".join(f"\n    {line}" for line in self.lines[-count:]) or " It said nothing."

    def send(self, number: signal.Signals) -> None:
        """Send a signal; does nothing if the program has ended."""
        self.expected_end |= number in ENDING
        self._popen.send_signal(number)

    def wait(self) -> int:
        """Wait for the end after a signal; return the exit status, negative for the signal that killed it.

        Raises ProcessError when it goes on for END_GRACE seconds.
        """
        try:
            status = self._popen.wait(END_GRACE)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} still runs {END_GRACE:g} s after the signal.{self.last_lines()}") from None
        self._reader.join(END_GRACE)
        return status

    def stop(self) -> int:
        """End the program by SIGTERM and return its exit status.

        Raises ProcessError when it does not end in END_GRACE seconds; it is killed then.
        """
        if not self.expected_end:
            self.send(signal.SIGTERM)
        try:
            return self.wait()
        except ProcessError:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the program (SIGKILL), as a crash would, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait()
