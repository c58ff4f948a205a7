# SPDX-License-Identifier: Apache-2.0
"""A controller's core and a switch: a seed decides what happens to them, and every step is checked."""

import math
import random
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from typing import Any

from controller.core.bindings import Binding
from controller.core.demand import Install
from controller.core.flow_changes import FlowChange
from controller.core.flow_keys import keeps_safe, leads_to, uplink_source
from controller.core.flow_sets import guards_of, keys_of
from controller.core.flows import FlowKey, Kind, Normal
from controller.core.home_agents import Status
from controller.core.installed import FlowEntry
from controller.core.offload import Offload
from controller.core.router import Router, Timing
from controller.core.traffic import Counters
from controller.core.tunnels import EndpointName, FlowTunnelNames
from controller.core.urgency import Urgency
from controller.core.withdrawals import ANSWERED_WITHIN
from hoaflow.addresses import Prefix, parse_address, parse_prefix
from hoaflow.deadlines import SLOTS_A_SECOND
from tests.support.switch_model import Answer, Coming, Switch
from tests.support.told_flows import tell

HOME_AGENT = parse_address("2001:db8:99::1")
PREFIXES = tuple(map(parse_prefix, ("2001:db8:99::/64", "2001:db8:aa::/48", "10.1.0.0/16")))
HOME_ADDRESSES = [
    parse_prefix(text) for text in ("2001:db8:99::100", "2001:db8:99::101", "2001:db8:aa:1::/64", "10.1.0.100")
]
CARE_OF_ADDRESSES = [parse_address(f"2001:db8:{link}::2") for link in (2, 3, 4)]
DPID, LEASE = 1, 10
# Seconds for which a flow may be reachable that has to go; of the `route` backend, the kernel's tunnel has its time.
REACHABLE = LEASE + ANSWERED_WITHIN + 3.0 + 0.2
TIMING = Timing(agent_lease=10.0, acknowledge_within=3.0, forget_after=600.0)
PORTS = {"tx": 10, "rx": 11, "tin": 3}
FLOW = FlowTunnelNames(
    "tx", "rx", parse_address("fdb1:b792:6c09::41"), "02:00:00:00:00:0a", "02:00:00:00:00:0b", 1440, None
)
ENDPOINT = EndpointName("tin", "02:00:00:00:00:0a")
# The same with IPv4 outside.
IPV4_HOME_AGENT = parse_address("10.1.0.1")
IPV4_CARE_OF_ADDRESSES = [parse_address(f"10.{link}.0.2") for link in (2, 3, 4)]
IPV4_FLOW = FLOW._replace(decapsulation_address=parse_address("10.5.0.41"))

# What happens to a router without its switch: that wakes its own channel.
FROM_OTHERS = {"post", "announce", "agent", "snapshot", "deregister", "drain", "pass_time"}


class Run:
    """One run: everything that can happen, at random."""

    TIMING = TIMING
    INSTALL = Install.EVERYTHING

    def __init__(self, seed: int, flow_backend: bool, ipv4_outside: bool = False) -> None:
        """``ipv4_outside``: home agent and care-of addresses are IPv4, and one mobile node has no reverse tunnel."""
        self.home_agent = IPV4_HOME_AGENT if ipv4_outside else HOME_AGENT
        self.care_of_addresses = IPV4_CARE_OF_ADDRESSES if ipv4_outside else CARE_OF_ADDRESSES
        self.flow = IPV4_FLOW if ipv4_outside else FLOW
        self.route = {self.home_agent: ENDPOINT}
        self.one_way = {HOME_ADDRESSES[1]} if ipv4_outside else set[Prefix]()
        self.chance = random.Random(seed)
        self.flow_backend = flow_backend
        self.now = 1000.0
        self.lives = 0
        self.switch = Switch(self.chance, bundles=bool(seed % 2))
        self.tunnels: dict[Prefix, bytes] = {}
        # Where bindings were after each step, and the steps in which gates that have not opened yet were requested.
        self.past: list[dict[Prefix, bytes]] = [{}]
        self.asked: dict[FlowKey, int] = {}
        self.log: list[str] = []
        self.rests = 0
        # When each home address was last bound to each care-of address, by the end of its lifetime.
        self.bound: dict[tuple[Prefix, bytes], float] = {}
        self.restart()

    @property
    def router(self) -> Router:
        return self.offload.router(DPID)

    # What happens.

    def restart(self) -> None:
        """Start the controller anew."""
        self.lives += 1
        self.offload = Offload(self.TIMING, (Normal(),), self.lives * 1_000_000, self.INSTALL)
        self.revision = 0
        self._connect()

    def die(self) -> None:
        """Kill the controller and start it again some time later; lifetimes and leases end meanwhile."""
        while self.switch.coming:  # what it has sent arrives
            self.switch.work()
        self.switch.says.clear()
        self.now += self.chance.choice((0.5, 3.0, 6.0, 9.0, 11.0))
        self._end_gates()
        self.restart()

    def reconnect(self) -> None:
        """Break the connection at any moment: the switch has or has not carried out what was on its way."""
        self.offload.connections.disconnect(DPID, self.now)
        self._connect()

    def _connect(self) -> None:
        while self.switch.coming and self.chance.random() < 0.5:
            self.switch.work()
        self.switch.coming.clear()
        self.switch.says.clear()
        self.read()

    def read(self) -> None:
        """Read the switch, with nothing on its way."""
        if self.switch.coming or self.switch.says:
            return
        reading = self.offload.switches.begin_reading(DPID, self.now)
        tell(reading, self.switch.flows.values())
        self.offload.switches.connect(DPID, PORTS, self.now)

    def announce(self) -> None:
        status = Status.UP if self.chance.random() < 0.9 else Status.DOWN
        self.offload.announce(self.home_agent, PREFIXES, LEASE, status, self.now)

    def agent(self) -> None:
        if self.flow_backend:
            self.offload.acknowledge(DPID, 0, {}, {len(self.home_agent): self.flow}, {}, self.now)
            return
        news = self.offload.renew_agent_lease(DPID, self.now).tunnels.difference(self.revision)
        if news.full and any(agent.synced for agent in self.offload.home_agents):
            self.tunnels = {}
        self.tunnels.update({tunnel.home_address: tunnel.care_of_address for tunnel in news.tunnels})
        for home_address in news.removed:
            self.tunnels.pop(home_address, None)
        self.revision = news.revision
        failures = {each: "no route" for each in HOME_ADDRESSES if self.chance.random() < 0.05}
        self.offload.acknowledge(DPID, self.revision, self.route, {}, failures, self.now)

    def binding(self, home_address: Prefix) -> Binding:
        care_of_address = self.chance.choice(self.care_of_addresses)
        lifetime = self.chance.choice((5, 60, 600, None))
        ends = None if lifetime is None else self.now + lifetime
        return self._bound(home_address, care_of_address, lifetime, ends)

    def _bound(
        self, home_address: Prefix, care_of_address: bytes, lifetime: int | None = None, ends: float | None = None
    ) -> Binding:
        both_ways = home_address not in self.one_way
        return Binding(home_address, care_of_address, self.home_agent, lifetime, ends, reverse_tunnel=both_ways)

    def post(self) -> None:
        if self.offload.home_agents.get(self.home_agent) is None:
            return
        first = self.binding(self.chance.choice(HOME_ADDRESSES))
        together = self.chance.sample(HOME_ADDRESSES, self.chance.choice((0, 0, 1, 2)))
        for home_address in dict.fromkeys((first.home_address, *together)):
            held = self._bound(home_address, first.care_of_address, first.lifetime, first.expires_at)
            self.offload.report(held, self.now, Urgency.URGENT if self.chance.random() < 0.7 else Urgency.ROUTINE)

    def deregister(self) -> None:
        self.offload.remove(self.chance.choice(HOME_ADDRESSES), self.now)

    def snapshot(self) -> None:
        if self.offload.home_agents.get(self.home_agent) is None:
            return
        held = [self.binding(each) for each in HOME_ADDRESSES if self.chance.random() < 0.7]
        with self.offload.snapshot(self.home_agent, self.now) as snapshot:
            snapshot.take_in(enumerate(held), self.now)
            while not snapshot.complete(self.now):
                self.offload.tick(self.now)

    def send(self) -> None:
        most = self.chance.choice((1, 3, 100))
        batch = self.offload.switches.next_batch(self.router, self.chance.choice((True, False)), self.now, most)
        if batch is not None:
            self.switch.coming.append(Coming(batch, len(self.past) - 1, self.asked, self.switch.bundles))

    def where(self) -> dict[Prefix, bytes]:
        return {each.home_address: each.care_of_address for each in self.offload.bindings}

    def work(self) -> None:
        if not self.switch.coming:
            return
        coming, before = self.switch.coming[0], set(self.switch.flows)
        self.check_order(self.switch.work(), coming, before)

    def hear(self) -> None:
        if not self.switch.says:
            return
        said = self.switch.says.popleft()
        if isinstance(said, Coming):
            self.switch.coming.append(said)
        elif not isinstance(said, Answer):
            self.offload.switches.flow_removed(self.router, said[0], Counters(1, 100), self.now, evicted=said[1])
        elif said.reasons:
            self.offload.switches.refuse(self.router, said.batch, said.reasons, said.rest_done, self.now, said.unsent)
        else:
            self.offload.switches.confirm(self.router, said.batch, self.now)

    def somebody_deletes(self) -> None:
        if self.switch.flows:
            self.switch.lose(self.chance.choice(list(self.switch.flows)))

    def room(self) -> None:
        table = self.chance.choice(("classify", "downlink", "uplink", "verify"))
        self.switch.room = {table: self.chance.choice((2, 3, 1000))} if self.chance.random() < 0.6 else {}
        self.switch.evicts = self.chance.random() < 0.5

    def drain(self) -> None:
        self.offload.drain(DPID, self.chance.random() < 0.3, self.now)

    def pass_time(self) -> None:
        # A switch that does not answer for long is taken for lost.
        waits = self.switch.coming or self.switch.says
        self.now += 0.1 if waits else self.chance.choice((0.1, 1.0, 3.0, 11.0))
        self._end_gates()
        self.offload.tick(self.now)

    def _end_gates(self) -> None:
        for key, entry in list(self.switch.flows.items()):
            if entry.expires_at is not None and entry.expires_at <= self.now:
                self.switch.lose(key)

    def settle(self) -> None:
        """Let everything on its way arrive, and nothing else happen meanwhile."""
        for _ in range(400):
            self.send()
            self.work()
            self.hear()
            while self.switch.coming or self.switch.says:
                self.work()
                self.hear()
            if not self.router.flows.dirty:
                break
        else:
            raise AssertionError("it never comes to rest")
        if self.router.flows.settled:
            self.switch.vanished.clear()
            self.rests += 1
            self.check_rest()

    STEPS: tuple[tuple[Callable[[Any], None], int], ...] = (
        (send, 30), (work, 25), (hear, 30), (post, 12), (announce, 8), (agent, 8), (snapshot, 2), (deregister, 2),
        (somebody_deletes, 2), (room, 2), (drain, 1), (pass_time, 6), (read, 2), (reconnect, 1), (restart, 1), (die, 1),
        (settle, 3),
    )  # fmt: skip

    def step(self) -> None:
        self.happen(self.STEPS)

    def happen(self, steps: tuple[tuple[Callable[[Any], None], int], ...]) -> None:
        """Let one of some things happen, by their weights, and check what must hold at any moment."""
        (what,) = self.chance.choices(_names(steps)[0], cum_weights=_names(steps)[1])
        self.log.append(f"{self.now:.1f} {what}")
        for each in self.offload.bindings:
            self.bound[each.home_address, each.care_of_address] = self.now
        pending = self._pending()
        getattr(self, what)()  # as a subclass may do it
        self.check_touched(what, pending)
        for each in self.offload.bindings:
            self.bound[each.home_address, each.care_of_address] = self.now
        self.past.append(self.where())
        opening = self.router.flows._reconciler.opening
        self.check_reach()
        self.asked = {gate: self.asked.get(gate, len(self.past) - 1) for gate in opening}

    # What must hold.

    def _pending(self) -> set[object]:
        """Return what there is for the switch's channel to do."""
        flows = self.router.flows
        return {flows.has_urgent and "urgent", flows.has_bulk and "bulk", flows.next_due()}

    def check_touched(self, what: str, before: set[object]) -> None:
        """Check that a channel is woken for what others give it to do, and that no deadline is passed over."""
        woken = self.offload.routers.touched.take_to_wake()
        if what in FROM_OTHERS and self._pending() - before - {False, None}:
            assert woken == [DPID], "what there is to send would wait for something else"
        due, planned = self.router.next_deadline(), self.offload.routers.next_due()
        if due is not None:
            assert planned is not None
            assert planned <= due + 1 / SLOTS_A_SECOND, "a wait would not end in time"

    def leads_to(self, entry: FlowEntry) -> bytes | None:
        """Return the care-of address that a downlink flow's packets are sent to, None for nowhere."""
        assert entry.flow.serves is not None
        return entry.flow.values[1] if self.flow_backend else self.tunnels.get(entry.flow.serves)

    def check_reach(self) -> None:
        """Check that no gate leads to a care-of address that its binding left longer ago than the lease and a deletion.

        So lifetimes bind even when nobody is there to end the flows.
        """
        for entry in self.switch.kinds(Kind.DOWNLINK):
            assert entry.flow.serves is not None
            where = self.leads_to(entry)
            gates = [gate for gate in self.switch.kinds(Kind.GATE) if leads_to(gate.flow.key, entry.flow.key)]
            if where is not None and gates:
                gone = self.now - self.bound.get((entry.flow.serves, where), -math.inf)
                assert gone <= REACHABLE, f"{entry.flow.serves} is reachable {gone:.1f} s after it left {where.hex()}"

    def check_fresh(self, gate: FlowKey, asked: int) -> None:
        """Check that no gate opens onto a flow to where its binding has not been since the gate was requested."""
        for entry in self.switch.kinds(Kind.DOWNLINK):
            assert entry.flow.serves is not None
            where = self.leads_to(entry)
            if where is not None and keeps_safe(entry.flow.key, gate):
                been = {past.get(entry.flow.serves) for past in (*self.past[asked:], self.where())}
                assert where in been, f"a gate opens onto a former care-of address of {entry.flow.serves}"

    def check_order(self, done: list[FlowChange], coming: Coming, before: set[FlowKey]) -> None:
        """Check that a batch is safe, given who was bound where when it was made and has been there since."""
        switch, since = self.switch, (*self.past[coming.made :], self.where())
        still = {each: where for each, where in since[0].items() if all(past.get(each) == where for past in since)}
        bindings = [self._bound(home_address, where) for home_address, where in still.items()]
        for change in done:
            flow = change.flow
            if flow.kind is Kind.UPLINK and change.add and flow.key not in before | switch.vanished:
                for each in bindings:
                    keys = keys_of(each)
                    if keys.uplink == flow.key and self.flow_backend:
                        assert {keys.verify} <= switch.flows.keys() | switch.vanished, "uplink without verify"
            if flow.kind is Kind.VERIFY and not change.add:
                for each in bindings:
                    keys = keys_of(each)
                    if keys.verify == flow.key:
                        assert keys.uplink not in switch.flows or flow.key in switch.flows, "verify goes before uplink"
            if flow.kind is Kind.GATE and change.add:
                self.check_guards(flow.key)
                if flow.key not in before | switch.vanished:
                    self.check_fresh(flow.key, coming.asked.get(flow.key, coming.made))
            if flow.kind is Kind.GUARD and not change.add and flow.key not in switch.flows:
                for entry in switch.kinds(Kind.GATE):
                    assert not keeps_safe(flow.key, entry.flow.key), "a guard goes before a gate"

    def check_guards(self, gate: FlowKey) -> None:
        home_agent = self.offload.home_agents.get(self.home_agent)
        backend = self.router.desired.backend(self.home_agent)
        if home_agent is None or (isinstance(backend, tuple) and not hasattr(backend, "uplink")):
            return
        for guard in guards_of(home_agent, backend):  # type: ignore[arg-type]
            if keeps_safe(guard.key, gate):
                assert guard.key in self.switch.flows.keys() | self.switch.vanished, "gate without guard"

    def is_awaited(self, binding: Binding) -> bool:
        """Tell whether a tunnel may yet come in time: others may use the uplink flow at its care-of address."""
        tunnels, home_address = self.router.tunnels, binding.home_address
        late = home_address in tunnels.overdue(self.now)
        return not (self.flow_backend or late or tunnels.is_applied(binding))

    def check_rest(self) -> None:
        """Check, at rest, that only flows stand that may, and that what is said is so."""
        switch, flows = self.switch, self.switch.flows
        while self.offload.activations.has_rechecks:
            self.offload.tick(self.now)
        gates = switch.kinds(Kind.GATE)
        for entry in gates:
            self.check_guards(entry.flow.key)
        bindings = list(self.offload.bindings)
        home_agent = self.offload.home_agents.get(self.home_agent)
        synced = home_agent is not None and home_agent.synced
        for each in bindings:
            if each.expires_at is not None and each.expires_at < self.now + 1.0:
                continue  # ends before a switch could count it
            keys = keys_of(each)
            wanted = [key for key in keys.all if self.flow_backend or key != keys.verify]
            standing = [key in flows for key in wanted]
            if keys.uplink is not None and keys.uplink in flows and self.flow_backend and gates:
                assert keys.verify in flows, "uplink without verify"
            if synced and self.router.tunnels.expected_until is None:
                uplink_away = keys.uplink is not None and any(standing) and not standing[1]
                own = [standing[0], *standing[2:]] if uplink_away else standing
                assert len(set(own)) == 1 or self.is_awaited(each), f"{each}: some flows only"
            if self.offload.states.of(each, self.now).state == "active":
                assert each.home_address not in self.offload.activations.unconfirmed, "active, and nobody was told"
                assert all(standing), "active without its flows"
                assert gates, "active without gates"
                if not self.flow_backend:
                    assert self.tunnels.get(each.home_address) == each.care_of_address
        if synced and gates and self.flow_backend and self.router.tunnels.expected_until is None:
            held = {each.home_address: each.care_of_address for each in bindings}
            for entry in switch.kinds(Kind.DOWNLINK):
                assert entry.flow.serves is not None
                assert held.get(entry.flow.serves) == entry.flow.values[1], "a flow to where the binding is not"
            for entry in switch.kinds(Kind.UPLINK):
                source = uplink_source(entry.flow.key)
                assert source in held.values(), "an uplink flow from where nobody is"


@cache
def _names(steps: tuple[tuple[Callable[[Any], None], int], ...]) -> tuple[list[str], list[int]]:
    """Return the names of steps, and their weights summed up."""
    return [what.__name__ for what, _ in steps], list(accumulate(weight for _, weight in steps))
