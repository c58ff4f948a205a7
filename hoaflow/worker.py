# SPDX-License-Identifier: Apache-2.0
"""Execute commands that may block in a thread, one after the other."""

import queue
import threading
from collections.abc import Callable
from typing import Any


class Worker:
    """A thread that gives each command, anything but None, to `do`. An error there ends it and goes to `crashed`."""

    def __init__(self, name: str, do: Callable[[Any], None], crashed: Callable[[BaseException], None]) -> None:
        self._do = do
        self._crashed = crashed
        self._commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # A daemon, so that the process can end while a call is under way.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, command: Any) -> None:
        """Have a command executed after those given so far."""
        self._commands.put(command)

    def dismiss(self) -> None:
        """End the thread after the commands given so far."""
        self._commands.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, at most `timeout` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while (command := self._commands.get()) is not None:
                self._do(command)
        except Exception as error:
            self._crashed(error)
