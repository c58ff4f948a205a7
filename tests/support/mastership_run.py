# SPDX-License-Identifier: Apache-2.0
"""Random runs of members, etcd and switches: messages are delayed and lost, members stopped, killed and cut off.

What must hold is asserted where it would be broken.
"""

from collections import Counter
from collections.abc import Callable

from controller.cluster.mastership import UNANSWERED
from controller.core.flows import Flow, FlowKey
from tests.support.mastership_actors import DPIDS, LEASE, MEMBERS, Actors, Connection, Process
from tests.support.mastership_core import CARE_OF_ADDRESSES, HOME_ADDRESSES, Core, desired


class Run(Actors):
    """One run, in which one thing after the other goes wrong."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.takeovers = 0
        self.gates_renewed = 0
        for name in MEMBERS:
            self._start(name)

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
            lambda: self._take_for_gone(process),
        ]
        self.rng.choice(faults)()
        self._move(self.rng.choice(HOME_ADDRESSES), self.rng.choice((None, *CARE_OF_ADDRESSES)))
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
        for dpid, switch in self.switches.items():
            core = self.processes[self._settled_master(dpid)].core
            assert switch.flows.of_bindings() == desired(core.router(dpid), self.bindings), f"{dpid} has other flows"
            assert switch.flows.has_gates(self.now), f"no gate of {dpid} stands"
        assert max(masters.values()) - min(masters[name] for name in MEMBERS) <= 1, f"uneven: {masters}"

    def _settled_master(self, dpid: int) -> str:
        switch = self.switches[dpid]
        masters = [each for each in switch.connections.values() if each.is_master]
        assert len(masters) == 1, f"{dpid} has {len(masters)} masters"
        assert masters[0].generation == switch.generation, f"the master of {dpid} has another generation"
        assert masters[0].has_read, f"the master of {dpid} has not read back"
        return masters[0].member

    # What must hold.

    def role_granted(self, dpid: int, connection: Connection, generation: int) -> None:
        """Check that nobody else was granted the same generation."""
        self.takeovers += 1
        holder = self.switches[dpid].granted.setdefault(generation, connection.member)
        assert holder == connection.member, f"{connection.member} and {holder} have generation {generation} of {dpid}"

    def writes(self, process: Process) -> None:
        """Check that the member may take itself for the master."""
        assert not process.must_ask, f"{process.name} was stopped, and writes without having asked etcd"

    def accepts(self, dpid: int, connection: Connection, known: dict[FlowKey, Flow] | None) -> None:
        """Check that no former master is let in, and that whoever renews a gate knows all flows."""
        switch, member = self.switches[dpid], connection.member
        assert connection.generation is not None
        assert connection.generation >= switch.newest, f"{member} writes to {dpid} with an old generation"
        switch.newest = connection.generation
        if known is not None:
            self.gates_renewed += 1
            unknown = switch.flows.unknown_to(connection, known, self.now)
            assert not unknown, f"{member} renews a gate of {dpid} and does not know of {unknown}"

    # Faults.

    def _start(self, name: str) -> None:
        """Start a member, after killing it if it runs."""
        former = self.processes.get(name)
        if former is not None and self.rng.random() < 0.5:
            self._take_for_gone(former)
        for dpid in DPIDS:
            self._disconnect(dpid, name)
        core = Core(DPIDS, self.bindings, self.now)
        process = self.processes[name] = Process(name, 0 if former is None else former.epoch + 1, core)
        self._note(f"{name} starts")
        self._ask_for_lease(process)
        self._read(process)
        self._announce(process)

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

    def _take_for_gone(self, process: Process) -> None:
        """Have another member end a member's lease, whether its process is gone or not."""
        lease = process.lease
        self._note(f"{process.name} is taken for gone")

        def arrive() -> None:
            if self.etcd.quorum and lease is not None:
                self.etcd.revoke(lease)
                self._tell_all()

        self._at(self.now + self._way(), arrive)

    def _set_quorum(self, there: bool) -> None:
        self.etcd.set_quorum(there, self.now)
        self._note(f"quorum: {there}")
