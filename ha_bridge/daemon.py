# SPDX-License-Identifier: Apache-2.0
"""Run the bridge: one loop that owns the core, and a thread for each task that may block.

The lease has a thread and a connection of its own, so neither a slow terminal nor a long snapshot delays it.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from ha_bridge.client import ControllerClient
from ha_bridge.core import Core
from ha_bridge.exchange import Announce, Announced, Command, Failed, Read, Replaced, Send, Snapshot, Verdict
from ha_bridge.model import Reading, ReadingFailed
from ha_bridge.sources import Source
from hoaflow.logs import Log

FAREWELL = 1.0  # seconds for a request under way when the bridge stops

Event = Callable[[float], None]

LOG = Log("bridge")


class Daemon:
    """Run `core` with `source` and two connections to the controller until `stop` or a signal."""

    def __init__(self, core: Core, source: Source, lease: ControllerClient, bindings: ControllerClient) -> None:
        self._core = core
        self._source = source
        self._lease = lease
        self._bindings = bindings
        # SimpleQueue: its put may be called from a signal handler.
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._workers = {
            Read: _Worker("source", self._read, self._crashed),
            Announce: _Worker("lease", self._announce, self._crashed),
            Send: _Worker("bindings", self._send, self._crashed),
        }
        self._workers[Snapshot] = self._workers[Send]
        self._crash: BaseException | None = None

    def changed(self) -> None:
        """Tell the core that the kernel changed something relevant. May be called from any thread."""
        self._events.put(self._on_change)

    def stop(self) -> None:
        """End `run` without withdrawing anything. May be called from any thread and from a signal handler."""
        self._events.put(None)

    def follow(self, watch: Callable[[], None]) -> None:
        """Run `watch`, which never returns, in a thread; a failure of it ends the bridge."""
        _Worker("kernel", lambda _command: watch(), self._crashed).submit(None)

    def stop_on_signals(self) -> None:
        """Make SIGTERM and SIGINT end `run`. Must be called from the main thread."""

        def handler(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handler)

    def run(self) -> None:
        """Keep the controller in step until `stop` or a signal. Raises any error that a thread failed with."""
        while True:
            now = time.monotonic()
            for command in self._core.next(now):
                self._workers[type(command)].submit(command)
            try:
                event = self._events.get(timeout=self._core.wait(now))
                while event is not None:
                    event(time.monotonic())
                    event = self._events.get_nowait()
                break
            except queue.Empty:
                continue
        if self._crash is not None:
            raise self._crash
        for worker in self._workers.values():
            worker.finish(FAREWELL)
        LOG.info("stopped", bindings=len(self._core.bindings.actual))

    def _on_change(self, now: float) -> None:
        LOG.debug("kernel-change")
        self._core.changed(now)

    def _read(self, _command: Command) -> None:
        outcome: Reading | ReadingFailed = self._source.read()
        self._events.put(lambda now: self._core.read(outcome, now))

    def _announce(self, command: Announce) -> None:
        outcome: Announced | Failed = self._lease.announce(command.status)
        self._events.put(lambda now: self._core.announced(command, outcome, now))

    def _send(self, command: Send | Snapshot) -> None:
        if isinstance(command, Send):
            verdicts: list[Verdict] | Failed = self._bindings.send(command.reports, command.started)
            self._events.put(lambda now: self._core.sent(command, verdicts, now))
        else:
            replaced: Replaced | Failed = self._bindings.replace(command.reports, command.started)
            self._events.put(lambda now: self._core.replaced(command, replaced, now))

    def _crashed(self, error: BaseException) -> None:
        self._crash = error
        self._events.put(None)


class _Worker:
    """Execute commands in a thread, one after the other."""

    def __init__(self, name: str, do: Callable[[Any], None], crashed: Callable[[BaseException], None]) -> None:
        self._do = do
        self._crashed = crashed
        self._commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, command: Any) -> None:
        self._commands.put(command)

    def finish(self, timeout: float) -> None:
        self._commands.put(_END)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while (command := self._commands.get()) is not _END:
                self._do(command)
        except Exception as error:
            # The main thread ends the process: half a bridge must not go on renewing the lease.
            self._crashed(error)


_END = object()
