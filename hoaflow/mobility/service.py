# SPDX-License-Identifier: Apache-2.0
"""Run what home agents, anchors and access gateways have in common around their mobile nodes.

A loop over sockets, a kernel that is kept as declared, a console, metrics and probes.
"""

import math
import selectors
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol

from prometheus_client.registry import Collector

from hoaflow.logs import Log
from hoaflow.metrics.server import MetricsServer, registry_of_process
from hoaflow.mobility.loop import Loop
from hoaflow.mobility.namespace_lock import lock_namespace
from hoaflow.mobility.objects import restore_others
from hoaflow.mobility.terminal_server import NO_SWITCHES, Listing, Switch, TerminalServer, silence
from hoaflow.mobility.upkeep import Upkeep
from hoaflow.tunnel.declaration import Declared, set_up
from hoaflow.tunnel.error_relay import ErrorRelay
from hoaflow.tunnel.icmp_errors import TunnelPacketError


class Readable(Protocol):
    """Something that a selector waits for."""

    def fileno(self) -> int:
        """Return its descriptor."""
        ...


class Service(ABC):
    """One such program in the current network namespace. Call `setup`, then `run`.

    `close` undoes `setup`, even an incomplete one: it carries out `undo`, the last first.
    """

    upkeep: Upkeep
    """Keeps the kernel as declared; from `declare` on."""

    def __init__(self, log: Log) -> None:
        """Prepare nothing yet. `log` is the program's."""
        self._log = log
        self.loop = Loop()
        self.undo = ExitStack()
        self._terminal: TerminalServer | None = None

    @abstractmethod
    def setup(self) -> None:
        """Prepare the kernel and the sockets: call `lock` first, and `declare` before the others.

        Raises one of KERNEL_ERRORS.
        """

    @abstractmethod
    def work(self, now: float) -> Iterable[float | None]:
        """Do what is due, for some hundredths of a second at most; return when more is due.

        In monotonic seconds, None for never. Between two calls the kernel is compared, if that is due.
        """

    def run(self) -> None:
        """Serve until `stop` is called."""
        self.loop.run(self._turn)

    def stop(self) -> None:
        """End `run`, also before it has begun. Signal handlers may call this."""
        self.loop.stop()

    def close(self) -> None:
        """Remove everything of ours from the kernel."""
        self.undo.close()
        self.loop.close()

    def lock(self) -> None:
        """Keep others of these programs out of the network namespace. Raises OSError if one is there."""
        self.undo.callback(lock_namespace().close)

    def listen(self, source: Readable, handle: Callable[[], None]) -> None:
        """Call `handle` whenever a socket is readable."""
        self.loop.selector.register(source, selectors.EVENT_READ, lambda _: handle())

    def declare(self, wanted: Sequence[Declared], ports: Callable[[], Collection[int]]) -> None:
        """Make everything that is wanted, and keep it so. `ports` returns the netlink ports of our own changes.

        Raises one of KERNEL_ERRORS.
        """
        self.upkeep = Upkeep(wanted, ports, self._readiness_changed)
        self.undo.callback(self.upkeep.close)
        for declared in wanted:
            self.undo.callback(declared.remove)
        restore_others(wanted)
        set_up(wanted, lambda done: self._log.info("set-up", done=done))
        for changes in self.upkeep.changes.sockets:
            self.listen(changes, self.upkeep.read_changes)

    def relay_errors(self, outer_source: str, is_ours: Callable[[TunnelPacketError], bool], mark: int = 0) -> None:
        """Relay ICMPv6 errors about tunnel packets to the senders of those inside (RFC 2473, section 8).

        `outer_source`, `is_ours` and `mark` are as in `ErrorRelay`. Raises OSError.
        """
        relay = ErrorRelay(outer_source, is_ours, mark=mark)
        self.undo.callback(relay.close)

        def take() -> None:
            for error in relay.relay():
                self._log.debug("tunnel-error", kind=error.kind, address=error.inner_destination, room=error.room)

        self.listen(relay, take)

    def open_console(
        self, address: tuple[str, int], listings: Mapping[str, Listing], switches: Mapping[str, Switch] = NO_SWITCHES
    ) -> None:
        """Open the console with these commands, as in its `Session`. Raises OSError if it can't listen."""
        self._terminal = TerminalServer(*address, self.loop.selector, listings, switches)
        self.undo.callback(self._terminal.close)
        self._log.info("console-listening", console="{}:{}".format(*self._terminal.address))

    def serve_metrics(self, address: tuple[str, int], collector: Collector) -> None:
        """Serve metrics, and probes of the kernel, the console and the loop. Raises OSError if it can't listen."""
        registry = registry_of_process()
        registry.register(collector)
        server = MetricsServer(address, registry, self._lacking, self.loop.stuck)
        self.undo.callback(server.close)
        self._log.info("metrics-listening", metrics="{}:{}".format(*server.address))

    def _turn(self, now: float) -> float:
        due = min((each for each in self.work(now) if each is not None), default=math.inf)
        if now >= self.upkeep.due:
            self.upkeep.run_slice()
        return min(due, self.upkeep.due)

    def _lacking(self) -> str | None:
        """Return what keeps it from being ready. Called from probes' threads."""
        terminal = self._terminal
        return self.upkeep.broken or (None if terminal is None else silence(terminal.address))

    def _readiness_changed(self) -> None:
        """Refuse clients of the console while the kernel does not do what the bindings say.

        A bridge then announces `ha-down`, and the controller keeps the bindings until their lifetimes end.
        """
        if self._terminal is None:
            return
        if self.upkeep.broken is None:
            self._terminal.resume()
        else:
            self._terminal.suspend()
