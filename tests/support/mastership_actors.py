# SPDX-License-Identifier: Apache-2.0
"""Members, etcd, switches and a bridge that send each other messages, which take a while and may be lost.

Time is their own. Members' cores are real, and told of mobile nodes that move; switches get what they send. It accepts
what its MASTER sends, as OpenFlow has it.
"""

import heapq
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from controller.cluster.commands import Command, Elect, GiveUp, Resign, TakeRole, election, resignation
from controller.cluster.mastership import Mastership
from controller.cluster.records import Keys, MemberRecord, Records, registration
from controller.cluster.view import Member
from controller.core.batches import Batch
from controller.core.flows import Flow, FlowKey
from controller.core.installed import AlikeFlows, ReportedFlow
from controller.core.sessions import Session
from hoaflow.addresses import Prefix, format_address
from hoaflow.etcd.messages import KeyValue, Transaction
from tests.support.mastership_core import CARE_OF_ADDRESSES, HOME_ADDRESSES, PORTS, Core, SwitchFlows, has_gate
from tests.support.played_etcd import PlayedEtcd
from tests.support.told_flows import as_told

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
    session: Session | None = None  # of the member's core
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
    flows: SwitchFlows = field(default_factory=SwitchFlows)


class Process:
    """A member's process: what the shell around `Mastership` does."""

    def __init__(self, name: str, epoch: int, core: Core) -> None:
        self.name, self.epoch, self.core = name, epoch, core
        self.mastership = Mastership(name)
        self.lease: int | None = None
        self.records = Records()
        self.stopped_at: float | None = None
        self.cut_off = False
        self.backlog: list[Callable[[], None]] = []
        self.must_ask = False  # it was stopped for so long that it must hear of etcd before it writes
        self.look_at = 0.0
        self.told_until = 0.0  # when the watch's last message arrives


class Actors(ABC):
    """All of a cluster, and what is on its way between them; `log` tells what has happened.

    Whoever derives from it is told what members and switches do, and raises AssertionError for what must not be.
    """

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.log: list[str] = []
        self.etcd = PlayedEtcd()
        self.switches = {dpid: Switch() for dpid in DPIDS}
        self.processes: dict[str, Process] = {}
        self.bindings = dict.fromkeys(HOME_ADDRESSES, CARE_OF_ADDRESSES[0])
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._calm = False
        self._recorded: dict[str, KeyValue] = {}  # what etcd held when `_records` were read from it
        self._records = Records()

    # Whether what they do is right.

    @abstractmethod
    def role_granted(self, dpid: int, connection: Connection, generation: int) -> None:
        """Take in that a switch is about to make a member its MASTER."""

    @abstractmethod
    def writes(self, process: Process) -> None:
        """Take in that a member is about to send what is due."""

    @abstractmethod
    def accepts(self, dpid: int, connection: Connection, known: dict[FlowKey, Flow] | None) -> None:
        """Take in that a switch is about to carry out what its MASTER has sent.

        With a gate in it, what the member knows of the switch is `known`.
        """

    # Time.

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

    # Between the bridge and members.

    def _announce(self, process: Process) -> None:
        """Have the bridge renew its lease, every three seconds."""
        process.core.announce(self.bindings, self.now)
        self._at(self.now + 3.0, lambda: self._in(process, lambda: self._announce(process)))

    def _move(self, home_address: Prefix, care_of_address: bytes | None) -> None:
        """Have a mobile node move, or go home; every member hears of it."""
        self._note(f"{home_address} is at {care_of_address and format_address(care_of_address)}")
        self.bindings.pop(home_address, None)
        if care_of_address is not None:
            self.bindings[home_address] = care_of_address
        for process in self.processes.values():
            self._at(self.now + self._way(), lambda process=process: self._report(process, home_address))  # type: ignore[misc]

    def _report(self, process: Process, home_address: Prefix) -> None:
        """Have a member hear where a mobile node is by now, once it runs."""
        self._in(process, lambda: process.core.report(home_address, self.bindings.get(home_address), self.now))

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
            if self._recorded != self.etcd.keys:
                self._recorded = dict(self.etcd.keys)
                self._records, unusable = KEYS.updated(Records(), self._recorded)
                assert not unusable
            records = self._records
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
            self._in(process, lambda: self._lose(process, dpid, connection))
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

        def stand_by() -> None:
            connection.session = process.core.open(dpid, self.now)
            process.mastership.switch_connected(dpid, known)

        self._to_member(connection, stand_by)

    def _lose(self, process: Process, dpid: int, connection: Connection) -> None:
        process.mastership.switch_gone(dpid)
        if connection.session is not None:
            connection.session.end(self.now)

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
            self.role_granted(dpid, connection, generation)
            switch.generation = generation
            for other in switch.connections.values():
                if other.is_master and other is not connection:
                    other.is_master = False
                    self._to_member(other, lambda other=other: self._overtaken(dpid, other))  # type: ignore[misc]
            connection.is_master = True
            self._to_member(connection, taken)

        def taken() -> None:
            connection.generation = generation
            session(connection).take_over(generation, False, self.now)
            mastership.role_taken(dpid, generation)
            self._to_switch(connection, tell_flows)

        def tell_flows() -> None:
            flows = list(as_told(switch.flows.entries(self.now)))
            self._to_member(connection, lambda: take_in(flows))

        def take_in(flows: list[ReportedFlow | AlikeFlows]) -> None:
            session(connection).begin_reading(self.now)
            session(connection).read(flows)
            compare()

        def compare() -> None:
            """Compare a part after the other: mobile nodes move meanwhile."""
            if not connection.open:
                return
            if session(connection).compare_read(PORTS, self.now):
                self._at(self.now + self._way(), lambda: self._in(process, compare))
                return
            session(connection).end_reading(PORTS, self.now)
            connection.has_read = True
            self._write(process, dpid, connection)

        self._note(f"{process.name} takes {dpid} with {generation}")
        self._to_switch(connection, arrive)

    def _overtaken(self, dpid: int, connection: Connection) -> None:
        self.processes[connection.member].mastership.overtaken(dpid, self.now)
        self._disconnect(dpid, connection.member)

    def _write(self, process: Process, dpid: int, connection: Connection) -> None:
        """Have a master send what is due, as long as it is certain; and again and again."""
        if not connection.open:
            return
        if process.mastership.is_certain(self.now):
            self.writes(process)
            for urgent in (True, False):
                batch = session(connection).next_batch(urgent, self.now, 100)
                if batch is not None:
                    self._send(process, dpid, connection, batch)
        self._at(self.now + 1.0, lambda: self._in(process, lambda: self._write(process, dpid, connection)))

    def _send(self, process: Process, dpid: int, connection: Connection, batch: Batch) -> None:
        known = process.core.known(dpid) if has_gate(batch) else None
        self._to_switch(connection, lambda: self._accept(dpid, connection, batch, known))

    def _accept(self, dpid: int, connection: Connection, batch: Batch, known: dict[FlowKey, Flow] | None) -> None:
        """Carry out what a member sends; with a gate in it, what the member knows of the switch is `known`."""
        if not connection.is_master:
            self._to_member(connection, lambda: self._overtaken(dpid, connection))
            return
        self.accepts(dpid, connection, known)
        self.switches[dpid].flows.take(batch, connection)
        sent = self.now
        self._to_member(connection, lambda: session(connection).confirm(batch, self.now, sent))


def session(connection: Connection) -> Session:
    """Return the session of a connection that the member knows of."""
    assert connection.session is not None
    return connection.session
