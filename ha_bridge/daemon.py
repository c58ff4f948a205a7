# SPDX-License-Identifier: Apache-2.0
"""Run the bridge: one loop that owns all state, and a thread for each task that may block.

Each controller has two threads and connections of its own, one for the lease and one for bindings. So neither a slow
terminal, nor a long snapshot, nor another controller delays a lease.
"""

import queue
import signal
import time
from collections.abc import Callable
from types import FrameType

from ha_bridge.client import ControllerClient
from ha_bridge.commands import Announce, Ask, MemberCommand, Read, Send, Snapshot
from ha_bridge.home_agent import HomeAgent
from ha_bridge.member import Member
from ha_bridge.members import Members
from ha_bridge.model import Owner
from ha_bridge.sources import Source
from hoaflow.client.cluster import resolve
from hoaflow.client.directory import MemberAddress
from hoaflow.logs import Log
from hoaflow.worker import Worker

FAREWELL = 1.0  # seconds for requests under way when the bridge stops
LONGEST_WAIT = 1.0  # seconds until what is due is looked at again

Event = Callable[[float], None]
Connect = Callable[[MemberAddress], tuple[ControllerClient, ControllerClient]]

LOG = Log("bridge")


class Daemon:
    """Keep `members` in step with `home_agent`, read from `source`, until `stop` or a signal.

    `connect` returns two connections to a controller: for the lease, and for bindings.
    """

    def __init__(self, home_agent: HomeAgent, members: Members, source: Source, connect: Connect) -> None:
        self._home_agent = home_agent
        self._members = members
        self._source = source
        self._read_for: Owner | None = None  # the owner whose bindings the source has shown; of the reader's thread
        self._connect = connect
        # SimpleQueue: its put may be called from a signal handler.
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._reader = Worker("source", self._read, self._crashed)
        self._resolver = Worker("names", self._resolve, self._crashed)
        self._connections: dict[Member, _Connection] = {}
        self._crash: BaseException | None = None

    def changed(self) -> None:
        """Tell that the kernel changed something relevant. May be called from any thread."""
        self._events.put(self._on_change)

    def owned(self, owner: Owner, here: bool) -> None:
        """Tell which pod owns the home agent's address, `here`: the one beside. May be called from any thread."""
        self._events.put(lambda _now: self._home_agent.owned(owner, here))

    def stop(self) -> None:
        """End `run` without withdrawing anything. May be called from any thread and from a signal handler."""
        self._events.put(None)

    def follow(self, watch: Callable[[], None]) -> None:
        """Run `watch`, which never returns, in a thread; a failure of it ends the bridge."""
        Worker("watch", lambda _start: watch(), self._crashed).submit(True)

    def stop_on_signals(self) -> None:
        """Make SIGTERM and SIGINT end `run`. Must be called from the main thread."""

        def handler(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handler)

    def run(self) -> None:
        """Keep the controllers in step until `stop` or a signal. Raises any error that a thread failed with."""
        while True:
            now = time.monotonic()
            self._submit_due(now)
            due = min(now + LONGEST_WAIT, self._home_agent.due(self._members.expiry), self._members.due(now))
            try:
                event = self._events.get(timeout=max(0.0, due - now))
                while event is not None:
                    event(time.monotonic())
                    event = self._events.get_nowait()
                break
            except queue.Empty:
                continue
        if self._crash is not None:
            raise self._crash
        self._finish()
        LOG.info("stopped", bindings=len(self._home_agent.bindings.registrations))

    def _submit_due(self, now: float) -> None:
        """Give the workers what is due."""
        if read := self._home_agent.next(now, self._members.expiry):
            self._reader.submit(read)
        if names := self._members.names_to_resolve(now):
            self._resolver.submit(names)
        for member in self._connections.keys() - set(self._members):
            self._connections.pop(member).dismiss()
        for member, command in self._members.next(now):
            if member not in self._connections:
                self._connections[member] = self._begin(member)
            self._connections[member].submit(command)

    def _begin(self, member: Member) -> "_Connection":
        return _Connection(member, self._members, self._connect, self._events, self._crashed)

    def _finish(self) -> None:
        """Give the requests under way some time, together."""
        end = time.monotonic() + FAREWELL
        workers = [worker for connection in self._connections.values() for worker in connection.workers]
        for worker in (self._reader, *workers):
            worker.dismiss()
        for worker in (self._reader, *workers):
            worker.join(max(0.0, end - time.monotonic()))

    def _on_change(self, now: float) -> None:
        LOG.debug("kernel-change")
        self._home_agent.changed(now)

    def _read(self, command: Read) -> None:
        if command.owner != self._read_for:
            self._source.begin_anew()
            self._read_for = command.owner
        outcome = self._source.read()
        self._events.put(lambda now: self._home_agent.read(outcome, now, command.owner))

    def _resolve(self, urls: tuple[str, ...]) -> None:
        found = {url: resolve(url) for url in urls}
        self._events.put(lambda now: self._members.resolved(found, now))

    def _crashed(self, error: BaseException) -> None:
        # Half a bridge must not go on renewing the leases.
        self._crash = error
        self._events.put(None)


class _Connection:
    """Carry out the commands for one controller."""

    def __init__(
        self,
        member: Member,
        members: Members,
        connect: Connect,
        events: "queue.SimpleQueue[Event | None]",
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._member = member
        self._members = members
        self._events = events
        self._lease, self._bindings = connect(member.address)
        self._for_lease = Worker(f"lease {member.address}", self._announce_or_ask, crashed)
        self._for_bindings = Worker(f"bindings {member.address}", self._report, crashed)
        self.workers = (self._for_lease, self._for_bindings)

    def submit(self, command: MemberCommand) -> None:
        """Have a command carried out."""
        worker = self._for_lease if isinstance(command, Announce | Ask) else self._for_bindings
        worker.submit(command)

    def dismiss(self) -> None:
        """End after the commands under way."""
        for worker in self.workers:
            worker.dismiss()

    def _announce_or_ask(self, command: Announce | Ask) -> None:
        if isinstance(command, Announce):
            outcome = self._lease.announce(command.status, command.last_change, command.owner)
            self._events.put(lambda now: self._members.announced(self._member, command, outcome, now))
        else:
            answer = self._lease.ask_cluster()
            self._events.put(lambda now: self._members.asked(self._member, answer, now))

    def _report(self, command: Send | Snapshot) -> None:
        if isinstance(command, Send):
            verdicts = self._bindings.send(command.reports, command.last_change, command.started, command.owner)
            self._events.put(lambda now: self._member.sent(command, verdicts, now))
        else:
            replaced = self._bindings.replace(command.reports, command.last_change, command.started, command.owner)
            self._events.put(lambda now: self._member.replaced(command, replaced, now))
