# SPDX-License-Identifier: Apache-2.0
"""The home agent's shell: one loop over its sockets, which hands what comes to the cache and does what it says."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hoaflow.home_agent import mobility
from hoaflow.home_agent.cache import (
    Acknowledge,
    Action,
    Binding,
    BindingCache,
    Discard,
    Install,
    Policy,
    Remove,
    StartDad,
)
from hoaflow.home_agent.console import Console, render, silence
from hoaflow.home_agent.declaration import declaration
from hoaflow.home_agent.home_link import HomeLink
from hoaflow.home_agent.load import Load
from hoaflow.home_agent.messages import BindingErrorStatus
from hoaflow.home_agent.metrics import HomeAgentCollector, Tally
from hoaflow.home_agent.packet_io import (
    PacketReceiver,
    addressed_to,
)
from hoaflow.home_agent.persistence import Persistence
from hoaflow.home_agent.replies import Replies
from hoaflow.home_agent.tunnels import KERNEL_ERRORS, Tunnels
from hoaflow.home_agent.upkeep import Upkeep
from hoaflow.logs import Log
from hoaflow.metrics.server import MetricsServer, registry_of_process
from hoaflow.tunnel.declaration import set_up
from hoaflow.tunnel.error_relay import ErrorRelay

LOCK = b"\0hoaflow-ha"
"""An abstract Unix domain socket: the kernel keeps their names by network namespace, and frees them with the owner."""
RESTORE_SECONDS = 0.02
"""How long messages wait, after a restart, for bindings that go back into the kernel."""
STUCK_SECONDS = 30.0
"""A loop that has not turned for so long is stuck. It turns every few seconds; to mend 20,000 tunnels takes longer."""
HOME_TEST_INIT, CARE_OF_TEST_INIT = 1, 2
ANSWERED_TYPES = (HOME_TEST_INIT, CARE_OF_TEST_INIT)
LAST_KNOWN_TYPE = 7

LOG = Log("home-agent")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says; already checked by itself (`hoaflow.home_agent.settings`)."""

    policy: Policy
    home_link: str
    console: tuple[str, int] | None
    journal: Path | None
    metrics: tuple[str, int] | None


class HomeAgent:
    """A home agent in the current network namespace. `setup`, then `run`; `close` undoes `setup`, also half-done."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._persistence = Persistence(settings.journal)
        self._cache = BindingCache(settings.policy, self._persistence.sequences)
        self._answers: list[Acknowledge] = []
        self._to_install: deque[Install] = deque()
        self._selector = selectors.DefaultSelector()
        self._undo = ExitStack()
        self._tally = Tally()
        self._replies = Replies(settings.policy.home_agent, self._tally)
        self._stopped = False
        self._turned: float | None = None
        """When the loop turned last (monotonic seconds); read by a probe's thread."""

    def setup(self) -> None:
        """Readies kernel and sockets, and takes saved bindings in. Raises one of KERNEL_ERRORS."""
        address, interface = self._settings.policy.home_agent, self._settings.home_link
        self._lock()
        self._tunnels = Tunnels(address)
        self._undo.callback(self._tunnels.close)
        self._home_link = HomeLink(interface, address)
        self._undo.callback(self._home_link.close)
        load = Load(address) if self._settings.metrics is not None else None
        wanted = declaration(self._settings.policy, self._tunnels, self._home_link, load, self._rebind)
        self._upkeep = Upkeep(wanted, lambda: self._tunnels.ports)
        self._undo.callback(self._upkeep.close)
        for declared in wanted:
            self._undo.callback(declared.remove)
        set_up(wanted, lambda done: LOG.info("set-up", done=done))
        # Never read, see Guard; but with it /proc/net/raw6 says that Mobility Headers are taken here.
        listener = socket.socket(socket.AF_INET6, socket.SOCK_RAW, mobility.MOBILITY_HEADER)
        self._undo.callback(listener.close)
        receiver = PacketReceiver(addressed_to(address, (mobility.DESTINATION_OPTIONS, mobility.MOBILITY_HEADER)))
        self._undo.callback(receiver.close)
        self._selector.register(receiver, selectors.EVENT_READ, lambda _: self._receive(receiver))
        self._selector.register(self._home_link.receiver, selectors.EVENT_READ, lambda _: self._hear())
        if not self._tunnels.relays_errors:
            self._relay_errors(address)
        for changes in self._upkeep.changes.sockets:
            self._selector.register(changes, selectors.EVENT_READ, lambda _: self._upkeep.heard())
        lacking: Callable[[], str | None] = lambda: self._upkeep.broken  # noqa: E731
        if self._settings.console is not None:
            console = Console(*self._settings.console, self._selector, self._render, lacking)
            self._undo.callback(console.close)
            LOG.info("console-listening", console="{}:{}".format(*console.address))
            lacking = partial(self._lacking, console.address)
        if self._settings.metrics is not None and load is not None:
            self._serve_metrics(self._settings.metrics, load, lacking)
        # The kernel is told in the loop, so that no message waits for that.
        self._to_install += self._persistence.restore(self._cache)

    def run(self) -> None:
        """Serves until `stop` is called (from a signal handler)."""
        wake, self._wake = socket.socketpair()
        with wake, self._wake:
            self._selector.register(wake, selectors.EVENT_READ, lambda _: None)
            while not self._stopped:
                self._turned = now = time.monotonic()
                self._execute(self._cache.tick(now))
                self._answer()
                self._install_restored()
                if now >= self._upkeep.due and not self._to_install:
                    self._upkeep.work()
                due = min(self._upkeep.due, self._cache.next_due() or self._upkeep.due)
                wait = 0.0 if self._to_install else max(0.0, due - time.monotonic())
                for key, events in self._selector.select(wait):
                    key.data(events)
            self._answer()
            self._selector.unregister(wake)

    def stop(self) -> None:
        """Ends `run`; may be called from a signal handler."""
        self._stopped = True
        self._wake.send(b"\0")

    def close(self) -> None:
        """Takes everything of ours out of the kernel. Mobile nodes have to register again (or: the state file)."""
        if hasattr(self, "_upkeep"):
            counts = dict(sorted(self._tally.dropped.items()))
            LOG.info("counters", **self._carried(), binding_updates=self._tally.binding_updates, **counts)
        self._undo.close()
        self._selector.close()
        self._persistence.close()

    def _carried(self) -> dict[str, object]:
        try:
            accepted, dropped = self._tunnels.counters()
        except KERNEL_ERRORS:  # never set up, or taken away by somebody a moment ago
            return {}
        return {"reverse_accepted": accepted, "reverse_dropped": dropped}

    # --- what comes in

    def _receive(self, receiver: PacketReceiver) -> None:
        for data in receiver.packets():
            try:
                self._take(mobility.parse_packet(data))
            except mobility.MalformedPacketError as error:
                self._tally.drop("malformed", "%s", error)

    def _take(self, packet: mobility.MobilityPacket) -> None:
        """Raises MalformedPacketError."""
        if packet.next_header != mobility.MOBILITY_HEADER:
            if packet.home_address is not None:
                self._take_home_address_option(packet, packet.home_address)
            return
        kind = packet.mobility_type
        if kind == mobility.BINDING_UPDATE:
            update = mobility.parse_binding_update(packet)
            self._tally.binding_updates += 1
            actions = self._cache.update(update, time.monotonic())
            self._persistence.record(self._cache, update.home_address)
            self._execute(actions)
        elif kind in ANSWERED_TYPES or kind > LAST_KNOWN_TYPE:
            # No route optimisation here: the return routability procedure's messages are as good as unknown.
            self._replies.report_error(packet, BindingErrorStatus.UNRECOGNISED_TYPE)
        else:
            self._tally.drop("unexpected", "MH Type %d from %s", kind, packet.source)

    def _take_home_address_option(self, packet: mobility.MobilityPacket, home_address: str) -> None:
        """A packet other than a Binding Update that claims a home address (RFC 6275, section 9.3.1)."""
        binding = self._cache.get(home_address)
        if binding is None or binding.care_of_address != packet.source:
            self._replies.report_error(packet, BindingErrorStatus.UNKNOWN_BINDING)
        else:
            self._tally.drop("home_address_option", "next header %d from %s", packet.next_header, packet.source)

    def _hear(self) -> None:
        for address in self._home_link.claims():
            actions = self._cache.duplicate_found(address)
            if actions:
                LOG.warning("duplicate-address", address=address)
            self._execute(actions)

    # --- what is to be done

    def _execute(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Discard(reason):
                    self._tally.drop("discarded", "%s", reason)
                case StartDad(binding):
                    self._start_dad(binding)
                case Install(binding, previous, acknowledge):
                    self._install(binding, previous, acknowledge)
                case Remove(binding, reason):
                    self._remove(binding, reason)
                case Acknowledge():
                    self._answers.append(action)

    def _start_dad(self, binding: Binding) -> None:
        for address in binding.defended:
            try:
                self._home_link.ask(address)
            except OSError as error:
                # The link is down: then nobody on it can have the address either.
                LOG.warning("dad-not-sent", address=address, reason=error)

    def _install(self, binding: Binding, previous: Binding | None, acknowledge: Acknowledge | None) -> None:
        defended = set(binding.defended) - set(previous.defended if previous is not None else ())
        self._home_link.wanted |= defended

        def install() -> None:
            self._tunnels.tunnel(binding.home_address, binding.care_of_address)
            for address in sorted(defended):
                self._home_link.defend(address)

        if (failure := self._in_kernel(install)) is not None:
            LOG.error("binding-failed", home_address=binding.home_address, reason=failure)
            self._execute(self._cache.install_failed(binding.home_address, time.monotonic()))
            return
        if previous is None or previous.care_of_address != binding.care_of_address:
            LOG.info(
                "binding-registered" if previous is None else "binding-moved",
                home_address=binding.home_address,
                care_of_address=binding.care_of_address,
                sequence=binding.update.sequence,
                lifetime=binding.lifetime,
            )
        self._persistence.record(self._cache, binding.home_address)
        if acknowledge is not None:
            self._answers.append(acknowledge)

    def _remove(self, binding: Binding, reason: str) -> None:
        self._home_link.wanted -= set(binding.defended)

        def remove() -> None:
            for address in binding.defended:
                self._home_link.release(address)
            self._tunnels.untunnel(binding.home_address)

        if (failure := self._in_kernel(remove)) is not None:
            LOG.error("removal-failed", home_address=binding.home_address, reason=failure, action="retry")
            return
        self._cache.removed(binding.home_address)
        LOG.info("binding-removed", home_address=binding.home_address, reason=reason)
        self._persistence.record(self._cache, binding.home_address)

    def _in_kernel(self, change: Callable[[], None]) -> str | None:
        """Makes one change of what is wanted. Where the kernel refuses it, something that it needs is gone: all that is
        wanted is mended, this change with it. Returns why that failed, too.
        """
        try:
            with self._upkeep.own_change():
                change()
        except KERNEL_ERRORS as error:
            LOG.debug("change-refused", reason=error, action="mend")
            if not self._upkeep.look():
                return self._upkeep.broken
        return None

    def _answer(self) -> None:
        """Sends the acknowledgements that are due, many after one wait for the disk.

        Not before: once a sequence number is acknowledged, no restart may let it be replayed.
        """
        self._persistence.commit(self._cache)
        answers, self._answers = self._answers, []
        for answer in answers:
            self._replies.acknowledge(answer)

    # --- around it

    def _lock(self) -> None:
        """Another one here would take what this one has in the kernel for leftovers, and remove it. Raises OSError."""
        lock = socket.socket(socket.AF_UNIX)
        self._undo.callback(lock.close)
        try:
            lock.bind(LOCK)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise OSError("a hoaflow-ha runs in this network namespace already; end that one first") from error

    def _serve_metrics(self, address: tuple[str, int], load: Load, lacking: Callable[[], str | None]) -> None:
        """Raises OSError."""
        registry = registry_of_process()
        registry.register(
            HomeAgentCollector(
                self._tally,
                bindings=lambda: len(self._cache),
                carried=load.carried,
                spoofed=lambda: self._tunnels.counters().dropped,
                unwritten=lambda: self._persistence.unwritten,
            )
        )
        server = MetricsServer(address, registry, lacking, self._stuck)
        self._undo.callback(server.close)
        LOG.info("metrics-listening", metrics="{}:{}".format(*server.address))

    def _rebind(self) -> None:
        self._selector.unregister(self._home_link.receiver)
        self._home_link.rebind()
        self._selector.register(self._home_link.receiver, selectors.EVENT_READ, lambda _: self._hear())

    def _lacking(self, console: tuple[str, int]) -> str | None:
        """What keeps the home agent from being ready; for probes, in a thread of theirs."""
        return self._upkeep.broken or silence(console)

    def _stuck(self) -> str | None:
        """Return what only a restart mends, for probes: a loop that does not turn."""
        if self._turned is None:
            return "not serving yet"
        seconds = time.monotonic() - self._turned
        return f"nothing has been done for {seconds:.0f} s" if seconds > STUCK_SECONDS else None

    def _relay_errors(self, address: str) -> None:
        """Tells correspondent nodes of errors for their packets' tunnels (RFC 2473, section 8). Raises OSError."""
        relay = ErrorRelay(address, self._tunnels.carries)
        self._undo.callback(relay.close)

        def take(_: int) -> None:
            for error in relay.relay():
                LOG.debug("tunnel-error", kind=error.kind, home_address=error.inner_destination, room=error.room)

        self._selector.register(relay, selectors.EVENT_READ, take)

    def _install_restored(self) -> None:
        """Brings some of what the journal held into the kernel."""
        until = time.monotonic() + RESTORE_SECONDS
        while self._to_install and time.monotonic() < until:
            install = self._to_install.popleft()
            if self._cache.get(install.binding.home_address) is install.binding:  # else it has moved on already
                self._execute([install])

    def _render(self, verbose: bool, fancy: bool) -> Iterator[str]:
        now, home_agent = time.monotonic(), self._settings.policy.home_agent
        entries = list(self._cache)  # as of now, however slowly the client reads
        return (
            render(b, home_agent, self._settings.home_link, self._tunnels.device(b.home_address), now, verbose, fancy)
            for b in entries
        )
