# SPDX-License-Identifier: Apache-2.0
"""Random runs of members, etcd and switches: messages are delayed and lost, members stopped, killed and cut off.

Time is the run's own. A switch accepts what its MASTER sends, as OpenFlow has it; what else must hold is asserted where
it would be broken.
"""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from controller.cluster.commands import Command, Elect, GiveUp, Resign, TakeRole, election, resignation
from controller.cluster.mastership import UNANSWERED, Mastership
from controller.cluster.records import Keys, MemberRecord, Records, registration
from controller.cluster.view import Member
from hoaflow.etcd.messages import Transaction
from tests.support.played_etcd import PlayedEtcd

LEASE = 3.0
MEMBERS = ("a", "b", "c")
DPIDS = range(1, 6)
ANSWER_WITHIN = 1.0
# Longest way of a message, in seconds: now and then, it takes longer than anybody waits.
USUAL_WAY, LONGEST_WAY = 0.05, 4.0
KEYS = Keys("hoaflow")


@dataclass(eq=False)
class Connection:
    """A switch's connection to a member, as both ends see it."""

    member: str
    epoch: int
    open: bool = True
    is_master: bool = False  # by the switch's word
    generation: int | None = None  # with which the member has become master, once it knows
    seen: int | None = None  # writes of others that the switch had had when it told its flows
    has_read: bool = False
    to_switch: float = 0.0  # when the last message arrives, for none overtakes another
    to_member: float = 0.0


@dataclass
class Switch:
    """What the switch knows, and what it has accepted."""

    generation: int | None = None
    connections: dict[str, Connection] = field(default_factory=dict)
    granted: dict[int, str] = field(default_factory=dict)
    newest: int = -1  # generation of the last write accepted
    writes: Counter[Connection] = field(default_factory=Counter)

    def writes_of_others(self, connection: Connection) -> int:
        """Return how many writes it has accepted from others."""
        return self.writes.total() - self.writes[connection]


class Process:
    """A member's process: what the shell around `Mastership` does."""

    def __init__(self, name: str, epoch: int) -> None:
        self.name, self.epoch = name, epoch
        self.mastership = Mastership(name)
        self.lease: int | None = None
        self.records = Records()
        self.stopped_at: float | None = None
        self.cut_off = False
        self.backlog: list[Callable[[], None]] = []
        self.must_ask = False  # it was stopped for so long that it must hear of etcd before it writes
        self.look_at = 0.0
        self.told_until = 0.0  # when the watch's last message arrives


class Run:
    """One run; `log` tells what has happened."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.log: list[str] = []
        self.etcd = PlayedEtcd()
        self.switches = {dpid: Switch() for dpid in DPIDS}
        self.processes: dict[str, Process] = {}
        self.takeovers = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._calm = False
        for name in MEMBERS:
            self._start(name)

    # The run.

    def step(self) -> None:
        """Let one thing go wrong, or right again, and time pass."""
        name, dpid = self.rng.choice(MEMBERS), self.rng.choice(DPIDS)
        process = self.processes[name]
        faults: list[Callable[[], None]] = [
            lambda: self._stop(process),
            lambda: self._resume(process),
            lambda: self._start(name),
            lambda: self._cut_off(process, not process.cut_off),
            lambda: self._set_quorum(not self.etcd.quorum),
            lambda: self._set_quorum(True),
            lambda: self._disconnect(dpid, name),
        ]
        self.rng.choice(faults)()
        self._pass(self.rng.choice((0.1, 1.0, 5.0, 15.0)))

    def settle(self) -> None:
        """Let all faults end, and see that every router gets a master that has read back, evenly."""
        self._calm = True
        self._set_quorum(True)
        for process in self.processes.values():
            self._resume(process)
            self._cut_off(process, False)
        self._pass(60.0)
        masters = Counter(self._settled_master(dpid) for dpid in DPIDS)
        assert max(masters.values()) - min(masters[name] for name in MEMBERS) <= 1, f"uneven: {masters}"

    def _settled_master(self, dpid: int) -> str:
        switch = self.switches[dpid]
        masters = [each for each in switch.connections.values() if each.is_master]
        assert len(masters) == 1, f"{dpid} has {len(masters)} masters"
        assert masters[0].generation == switch.generation, f"the master of {dpid} has another generation"
        assert masters[0].has_read, f"the master of {dpid} has not read back"
        return masters[0].member

    def _pass(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            looks = [process.look_at for process in self.processes.values() if process.stopped_at is None]
            due = min([*looks, *(at for at, _, _ in self._queue[:1])], default=math.inf)
            if due > until:
                break
            self.now = max(self.now, due)
            if self.etcd.expire(self.now):
                self._tell_all()
            if self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            for process in list(self.processes.values()):
                if process.stopped_at is None and process.look_at <= self.now:
                    self._decide(process)
        self.now = until

    def _at(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (at, next(self._numbers), act))

    def _way(self) -> float:
        """Return how long a message takes."""
        usual = self._calm or self.rng.random() < 0.9
        return self.rng.uniform(0.0, USUAL_WAY if usual else LONGEST_WAY)

    def _is_lost(self) -> bool:
        return not self._calm and self.rng.random() < 0.05

    def _in(self, process: Process, act: Callable[[], None]) -> None:
        """Have a process do something, once it runs."""
        if self.processes[process.name] is not process:
            return
        if process.stopped_at is not None:
            process.backlog.append(act)
        else:
            act()
            process.look_at = self.now

    def _note(self, text: str) -> None:
        self.log.append(f"{self.now:9.3f} {text}")

    # Faults.

    def _start(self, name: str) -> None:
        """Start a member, after killing it if it runs."""
        former = self.processes.get(name)
        for dpid in DPIDS:
            self._disconnect(dpid, name)
        process = self.processes[name] = Process(name, 0 if former is None else former.epoch + 1)
        self._note(f"{name} starts")
        self._ask_for_lease(process)
        self._read(process)

    def _stop(self, process: Process) -> None:
        if process.stopped_at is None:
            process.stopped_at = self.now
            self._note(f"{process.name} is stopped")

    def _resume(self, process: Process) -> None:
        if process.stopped_at is None:
            return
        process.must_ask |= self.now - process.stopped_at > LEASE + UNANSWERED
        process.stopped_at = None
        self._note(f"{process.name} goes on")
        backlog, process.backlog = process.backlog, []
        self.rng.shuffle(backlog)  # greenlets wake in any order
        for act in backlog:
            self._in(process, act)

    def _cut_off(self, process: Process, cut_off: bool) -> None:
        process.cut_off = cut_off
        self._note(f"{process.name} is {'cut off from etcd' if cut_off else 'at etcd again'}")

    def _set_quorum(self, there: bool) -> None:
        self.etcd.set_quorum(there, self.now)
        self._note(f"quorum: {there}")

    # Between members and etcd.

    def _ask(self, process: Process, act: Callable[[], object], take: Callable[[object], None]) -> None:
        """Have etcd do something, and the process take the answer, or None if there is none in time."""
        answered: list[bool] = []

        def arrive() -> None:
            if self.etcd.quorum and not process.cut_off:
                answer = act()
                self._tell_all()
                if not self._is_lost():
                    self._at(self.now + self._way(), lambda: self._in(process, lambda: finish(answer)))

        def finish(answer: object) -> None:
            if not answered:
                answered.append(True)
                take(answer)

        if not self._is_lost():
            self._at(self.now + self._way(), arrive)
        self._at(self.now + ANSWER_WITHIN, lambda: self._in(process, lambda: finish(None)))

    def _ask_for_lease(self, process: Process) -> None:
        asked, lease = self.now, process.lease
        process.mastership.asking(asked)
        process.must_ask = False

        def act() -> object:
            return self.etcd.grant(LEASE, self.now) if lease is None else self.etcd.keep_alive(lease, self.now)

        def take(answer: object) -> None:
            if answer is not None and lease is not None and not answer:
                process.lease = None
                process.mastership.lease_lost()
            elif answer is not None:
                process.lease = int(str(answer)) if lease is None else lease
                process.mastership.lease_renewed(process.lease, asked, LEASE)
                self._register(process)
            again = max(asked + LEASE / 3, self.now + 0.1)
            self._at(again, lambda: self._in(process, lambda: self._ask_for_lease(process)))

        self._ask(process, act, take)

    def _register(self, process: Process) -> None:
        assert process.lease is not None
        member = Member(process.name, None, 0.0, "0")
        record = MemberRecord(member, process.lease, process.mastership.connected, frozenset({"ha"}))
        if (transaction := registration(KEYS, process.records, record)) is not None:
            self._ask(process, lambda: self.etcd.transact(*transaction), lambda _: None)

    def _read(self, process: Process) -> None:
        """Have a process read etcd's keys every second, besides what the watch tells."""
        self._tell(process)
        self._at(self.now + 1.0, lambda: self._in(process, lambda: self._read(process)))

    def _tell_all(self) -> None:
        for process in self.processes.values():
            self._tell(process)

    def _tell(self, process: Process) -> None:
        """Send what etcd holds now; a watch tells in order."""
        if self.etcd.quorum and not process.cut_off:
            records, unusable = KEYS.updated(Records(), self.etcd.keys)
            assert not unusable
            process.told_until = max(process.told_until, self.now + self._way())
            self._at(process.told_until, lambda: self._in(process, lambda: self._observe(process, records)))

    def _observe(self, process: Process, records: Records) -> None:
        process.records = records
        process.mastership.observe(records)

    # Between members and switches.

    def _decide(self, process: Process) -> None:
        for command in process.mastership.decide(self.now):
            match command:
                case TakeRole(dpid, generation):
                    self._take_role(process, dpid, generation)
                case GiveUp(dpid):
                    self._note(f"{process.name} gives {dpid} up")
                    self._disconnect(dpid, process.name)
                case Elect():
                    self._change_master(process, command, election(KEYS, command, 0.0))
                case Resign():
                    self._change_master(process, command, resignation(KEYS, command))
        process.look_at = process.mastership.next_look()

    def _change_master(self, process: Process, command: Command, transaction: Transaction) -> None:
        self._note(f"{process.name} has etcd carry out {command}")
        self._ask(process, lambda: self.etcd.transact(*transaction), lambda _: None)

    def _disconnect(self, dpid: int, name: str) -> None:
        """End a connection, if there is one; the switch comes back."""
        connection = self.switches[dpid].connections.pop(name, None)
        process = self.processes.get(name)
        if connection is not None and process is not None:
            connection.open = False
            self._in(process, lambda: process.mastership.switch_gone(dpid))
        self._at(self.now + self.rng.uniform(0.1, 2.0), lambda: self._connect(dpid, name))

    def _connect(self, dpid: int, name: str) -> None:
        switch, process = self.switches[dpid], self.processes[name]
        if name in switch.connections:
            return
        if process.stopped_at is not None:
            self._at(self.now + 1.0, lambda: self._connect(dpid, name))
            return
        connection = switch.connections[name] = Connection(name, process.epoch)
        known = switch.generation  # it has become SLAVE
        self._to_member(connection, lambda: process.mastership.switch_connected(dpid, known))

    def _to_switch(self, connection: Connection, act: Callable[[], None]) -> None:
        connection.to_switch = max(connection.to_switch, self.now + self._way())
        self._at(connection.to_switch, lambda: act() if connection.open else None)

    def _to_member(self, connection: Connection, act: Callable[[], None]) -> None:
        process = self.processes[connection.member]
        connection.to_member = max(connection.to_member, self.now + self._way())
        self._at(connection.to_member, lambda: self._in(process, lambda: act() if connection.open else None))

    def _take_role(self, process: Process, dpid: int, generation: int) -> None:
        switch, mastership = self.switches[dpid], process.mastership
        connection = switch.connections.get(process.name)
        if connection is None:
            return

        def arrive() -> None:
            if switch.generation is not None and generation < switch.generation:
                known = switch.generation
                self._to_member(connection, lambda: mastership.role_refused(dpid, known))
                return
            holder = switch.granted.setdefault(generation, process.name)
            assert holder == process.name, f"{process.name} and {holder} have generation {generation} of {dpid}"
            switch.generation = generation
            for other in switch.connections.values():
                if other.is_master and other is not connection:
                    other.is_master = False
                    self._to_member(other, lambda other=other: self._overtaken(dpid, other))  # type: ignore[misc]
            connection.is_master = True
            self.takeovers += 1
            self._to_member(connection, taken)

        def taken() -> None:
            connection.generation = generation
            mastership.role_taken(dpid, generation)
            self._to_switch(connection, tell_flows)
            self._write(process, dpid, connection)

        def tell_flows() -> None:
            seen = switch.writes_of_others(connection)
            self._to_member(connection, lambda: read(seen))

        def read(seen: int) -> None:
            connection.seen, connection.has_read = seen, True

        self._note(f"{process.name} takes {dpid} with {generation}")
        self._to_switch(connection, arrive)

    def _overtaken(self, dpid: int, connection: Connection) -> None:
        self.processes[connection.member].mastership.overtaken(dpid, self.now)
        self._disconnect(dpid, connection.member)

    def _write(self, process: Process, dpid: int, connection: Connection) -> None:
        """Have a master write, a gate once it has read the flows, as long as it is certain; and again and again."""
        if not connection.open:
            return
        if process.mastership.is_certain(self.now):
            assert not process.must_ask, f"{process.name} was stopped, and writes without having asked etcd"
            renews_gate = connection.has_read
            self._to_switch(connection, lambda: self._accept(dpid, connection, renews_gate))
        self._at(self.now + 0.5, lambda: self._in(process, lambda: self._write(process, dpid, connection)))

    def _accept(self, dpid: int, connection: Connection, renews_gate: bool) -> None:
        switch = self.switches[dpid]
        if not connection.is_master:
            self._to_member(connection, lambda: self._overtaken(dpid, connection))
            return
        assert connection.generation is not None
        assert connection.generation >= switch.newest, f"{connection.member} writes to {dpid} with an old generation"
        switch.newest = connection.generation
        switch.writes[connection] += 1
        if renews_gate:
            assert switch.writes_of_others(connection) == connection.seen, f"{connection.member} has not read {dpid}"
