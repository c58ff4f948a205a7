# SPDX-License-Identifier: Apache-2.0
"""Find all processes that run because of a test, and see that none is left."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.checkout import CHECKOUT
from tests.support.waiting import wait_for

MARK = "HOAFLOW_TEST_MARK"


class Marked:
    """A command whose processes all carry a mark in their environment."""

    def __init__(self, command: Sequence[str], mark: str, log: Path) -> None:
        """Start the command. log: the file for its output. mark: unique on this host."""
        self.mark, self.log = mark, log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env={**os.environ, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # to signal its group without this one
            )

    def running(self) -> list[str]:
        """Return the command lines of its processes."""
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                    found.append((directory / "cmdline").read_text().replace("\0", " "))
            except (OSError, UnicodeDecodeError):
                continue  # it has just ended
        return found

    def wait_until_running(self, *words: str, seconds: float) -> None:
        """Wait for a process with each of these words in its command line."""

        def are_there() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            lines = self.running()
            return all(any(word in line for line in lines) for word in words)

        wait_for(f"{', '.join(words)} run", are_there, seconds)

    def send(self, number: signal.Signals, group: bool) -> None:
        """Send a signal to the process that was started, or to its whole group, as a terminal does."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def assert_nothing_is_left(self, seconds: float = 60.0) -> None:
        """Wait until it has ended, and every process of it; if it does not, show what still runs and what it said."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            running = "\n".join(self.running())
            message = f"after {seconds:g} s this still runs:\n{running}\nIt said:\n{self.log.read_text()}"
            raise AssertionError(message) from None
        wait_for(f"nothing of {self.mark} runs", lambda: not self.running(), seconds)


@contextmanager
def marked(command: Sequence[str], mark: str, log: Path) -> Iterator[Marked]:
    """Start a command; it is killed in the end if it still runs."""
    started = Marked(command, mark, log)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            os.killpg(started.process.pid, signal.SIGKILL)
            started.process.wait()
