# SPDX-License-Identifier: Apache-2.0
"""A run with two controllers, each with a memory of its own, that take a switch over from each other.

A bridge tells both of its home agent's changes, each in its own time. Every step is checked by packets.
"""

import math
import operator
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from controller.core.bindings import Binding
from controller.core.flows import Kind, Normal
from controller.core.installed import FlowEntry
from controller.core.offload import Offload
from controller.core.timeouts import ROUNDING
from hoaflow.addresses import Prefix, parse_address
from tests.support.core_run import (
    CARE_OF_ADDRESSES,
    DPID,
    HOME_ADDRESSES,
    HOME_AGENT,
    LEASE,
    PORTS,
    TIMING,
)
from tests.support.numbered_run import NumberedRun
from tests.support.packets import Packet, Pipeline

MOMENT = 0.1  # seconds, of a step in which something is on its way
STRANGER = parse_address("2001:db8:77::7")
PROTOCOLS = {16: 41, 4: 4}  # in a tunnel, by the octets of the address inside
ETH_TYPES = {16: 0x86DD, 4: 0x0800}
NORMAL, LOCAL, DROP, TUNNEL = "NORMAL", "LOCAL", "drop", f"output:{PORTS['tx']}"
NEIGHBOUR_DISCOVERY = range(133, 138)


@dataclass
class Controller:
    """A controller's core, what the bridge has not told it yet, and its renewals: their ends and numbers."""

    offload: Offload
    unreported: deque[Binding] = field(default_factory=deque)
    renewals: list[tuple[float, int]] = field(default_factory=list)


class TakeoverRun(NumberedRun):
    """Two controllers and a switch, of which one controller is master."""

    def __init__(self, seed: int) -> None:
        self._starts = 0
        self.controllers = [self._started(), self._started()]
        self.master = self.acting = 0
        self.overtaken: int | None = None  # has not noticed yet that it is not the master any more
        # Where each home address is bound at the home agent, and when it was last bound to each care-of address.
        self.truth: dict[Prefix, Binding] = {}
        self.true_at: dict[tuple[Prefix, bytes], float] = {}
        self.takeovers = self.direct = 0
        self._checked: tuple[float, list[FlowEntry]] = (0.0, [])
        super().__init__(seed)
        self.controllers[1].offload.connections.stand_by(DPID, PORTS, None, self.now)
        self.settle()  # what tables do with what nothing matches

    def _started(self) -> Controller:
        self._starts += 1
        return Controller(Offload(TIMING, (Normal(),), first_revision=self._starts * 1_000_000))

    # What a run with one controller has, of the one that acts now: the master, unless a step is another's.

    @property
    def offload(self) -> Offload:
        return self.controllers[self.acting].offload

    @offload.setter
    def offload(self, started: Offload) -> None:
        self.controllers[self.acting] = Controller(started)

    @property
    def unreported(self) -> deque[Binding]:
        return self.controllers[self.acting].unreported

    @unreported.setter
    def unreported(self, former: deque[Binding]) -> None:
        """Ignore what a run with one controller begins with."""

    @property
    def renewals(self) -> list[tuple[float, int]]:
        return self.controllers[self.acting].renewals

    @renewals.setter
    def renewals(self, former: list[tuple[float, int]]) -> None:
        """Ignore what a run with one controller begins with."""

    @contextmanager
    def as_any(self) -> Iterator[None]:
        """Let either controller act."""
        self.acting = self.chance.randrange(len(self.controllers))
        try:
            yield
        finally:
            self.acting = self.master

    # What happens.

    def takeover(self) -> None:
        """Make the other controller the master, whatever is on its way from this one; what comes later is refused."""
        if self.overtaken is not None:
            self.notice()
        while self.switch.coming and self.chance.random() < 0.5:
            self.work()
        self.switch.coming.clear()
        self.switch.says.clear()
        self.overtaken, self.master = self.master, 1 - self.master
        self.acting = self.master
        self.takeovers += 1
        self.offload.connections.take_over(DPID, self.takeovers, False, self.now)
        self.read()
        if self.chance.random() < 0.5:
            self.notice()

    def notice(self) -> None:
        """Have the former master notice that it is not any more, and stand by."""
        if self.overtaken is not None:
            self._stand_by(self.overtaken)
            self.overtaken = None

    def _stand_by(self, which: int) -> None:
        connections = self.controllers[which].offload.connections
        connections.leave(DPID, "overtaken", self.now)
        connections.stand_by(DPID, PORTS, None, self.now)

    def restart_standby(self) -> None:
        """Start anew the controller that is not the master."""
        other = 1 - self.master
        self.controllers[other] = self._started()
        self.controllers[other].offload.connections.stand_by(DPID, PORTS, None, self.now)
        self.overtaken = None

    def announce(self) -> None:
        with self.as_any():
            super().announce()

    def agent(self) -> None:
        with self.as_any():
            super().agent()

    def move(self) -> None:
        """Let mobile nodes move."""
        for home_address in self.chance.sample(HOME_ADDRESSES, self.chance.choice((1, 1, 2))):
            self._bind(self.binding(home_address))

    def tell(self) -> None:
        """Tell a controller some of what it has not been told, or all."""
        with self.as_any():
            if self.offload.home_agents.get(HOME_AGENT) is None:
                return
            for _ in range(self.chance.choice((1, 100, 100))):
                if not self.unreported:
                    self.offload.reported(HOME_AGENT, self.last_change, whole=False, now=self.now)
                    break
                self.offload.report(self.unreported.popleft(), self.now)

    def snapshot(self) -> None:
        """Tell a controller everything at once."""
        with self.as_any():
            if self.offload.home_agents.get(HOME_AGENT) is not None:
                self._take_snapshot()

    def _take_snapshot(self) -> None:
        self.unreported.clear()
        with self.offload.snapshot(HOME_AGENT, self.now) as snapshot:
            snapshot.take_in(enumerate(list(self.truth.values())), self.now)
            while not snapshot.complete(self.now):
                self.offload.tick(self.now)
        self.offload.reported(HOME_AGENT, self.last_change, whole=True, now=self.now)

    def deregister(self) -> None:
        """Let a mobile node return home."""
        if self.truth:
            self._unbind(self.chance.choice(list(self.truth.values())))

    def _bind(self, binding: Binding) -> None:
        self._see(binding.home_address, binding.care_of_address)
        self.truth[binding.home_address] = binding
        for each in self.controllers:
            each.unreported.append(binding)

    def _unbind(self, binding: Binding) -> None:
        self._see(binding.home_address, None)
        del self.truth[binding.home_address]
        for each in self.controllers:
            each.unreported.append(Binding(binding.home_address, binding.care_of_address, HOME_AGENT, 0, self.now))

    def somebody_deletes(self) -> None:
        """Delete a flow of a binding, or a gate; without the guards nothing could be promised."""
        kinds = (Kind.GATE, Kind.DOWNLINK, Kind.UPLINK, Kind.VERIFY)
        keys = [key for key, entry in self.switch.flows.items() if entry.flow.kind in kinds]
        if keys:
            self.switch.lose(self.chance.choice(keys))

    def room(self) -> None:
        super().room()
        self.switch.evicts = False  # of any flow, guards among them

    def recover(self) -> None:
        """Let bridge, agent and operator do for both controllers all that they have to, and the switch have room."""
        self.switch.room = {}
        for which in range(len(self.controllers)):
            self.acting = which
            NumberedRun.announce(self)
            NumberedRun.agent(self)
            self._take_snapshot()
        self.acting = self.master
        self.offload.drain(DPID, False, self.now)
        self.settle()

    def pass_time(self) -> None:
        """Let time pass, mostly less than a lease."""
        waits = self.switch.coming or self.switch.says
        self.now += 0.1 if waits else self.chance.choice((0.1, 0.5, 1.0, 1.0, 3.0, 3.0, 11.0))
        self._end_gates()
        self.offload.tick(self.now)
        self.controllers[1 - self.master].offload.tick(self.now)

    def _end_gates(self) -> None:
        """Let end, as the time passes, what ends by itself: gates in the switch, lifetimes at the home agent."""
        super()._end_gates()
        for binding in list(self.truth.values()):
            if binding.expires_at is not None and binding.expires_at <= self.now:
                self.true_at[binding.home_address, binding.care_of_address] = binding.expires_at
                self._unbind(binding)

    STEPS = (
        *(each for each in NumberedRun.STEPS if each[0].__name__ not in ("post", "announce", "snapshot")),
        (move, 6), (tell, 14), (announce, 12), (snapshot, 4), (takeover, 2), (notice, 2), (recover, 4),
        (restart_standby, 1),
    )  # fmt: skip

    def step(self) -> None:
        for each in self.truth.values():
            self.true_at[each.home_address, each.care_of_address] = self.now
        super().step()
        for each in self.truth.values():
            self.true_at[each.home_address, each.care_of_address] = self.now
        self.check_packets()

    # What must hold.

    def check_reach(self) -> None:
        """Check nothing by what one controller knows: `check_packets` knows where the mobile nodes are."""

    def is_fresh(self, home_address: Prefix, care_of_address: bytes) -> bool:
        """Tell whether a mobile node is at a care-of address, or has been within the time that a gate may stand."""
        return self.now - self.true_at.get((home_address, care_of_address), -math.inf) <= LEASE + ROUNDING + MOMENT

    def check_packets(self) -> None:
        """Send packets of all kinds, if the outcome may have changed, and check where they come out."""
        standing = list(self.switch.flows.values())
        if (self.now, len(standing)) == (self._checked[0], len(self._checked[1])) and all(
            map(operator.is_, standing, self._checked[1])
        ):
            return
        self._checked = (self.now, standing)
        pipeline = Pipeline(entry.flow for entry in self.switch.flows.values())
        for home_address in HOME_ADDRESSES:
            self._check_towards(pipeline, home_address)
        for care_of_address in (*CARE_OF_ADDRESSES, STRANGER):
            for home_address in HOME_ADDRESSES:
                self._check_from(pipeline, care_of_address, home_address)

    def _check_towards(self, pipeline: Pipeline, home_address: Prefix) -> None:
        packet = _packet(STRANGER if len(home_address.packed) == 16 else bytes(4), home_address.packed)
        sent = pipeline.outcome(packet)
        if sent.where != NORMAL:
            assert sent.where == TUNNEL, f"a packet for {home_address} goes to {sent.where}"
            self.direct += 1
            assert sent.packet["tun_ipv6_src"] == HOME_AGENT
            where = sent.packet["tun_ipv6_dst"]
            assert isinstance(where, bytes)
            assert self.is_fresh(home_address, where), f"a packet for {home_address} goes to {where.hex()}"
            _check_guarded(pipeline, packet)

    def _check_from(self, pipeline: Pipeline, care_of_address: bytes, home_address: Prefix) -> None:
        """Check that a packet that the switch takes out of a tunnel is delivered if its pair is a binding's only."""
        octets = len(home_address.packed)
        tunnelled = _packet(care_of_address, HOME_AGENT) | {"ip_proto": PROTOCOLS[octets]}
        taken = pipeline.outcome(tunnelled)
        if taken.where == NORMAL:
            return
        assert taken.where == LOCAL, f"a tunnel packet goes to {taken.where}"
        inside = _packet(home_address.packed, STRANGER if octets == 16 else bytes(4))
        mark = taken.packet.get("pkt_mark", 0)
        out = inside | {"in_port": PORTS["rx"], "tun_ipv6_src": care_of_address, "pkt_mark": mark}
        delivered = pipeline.outcome(out)
        if delivered.where != DROP:
            assert delivered.where == LOCAL, f"a packet out of a tunnel goes to {delivered.where}"
            assert self.is_fresh(home_address, care_of_address), f"a packet of {home_address} comes from elsewhere"
        spoofed = pipeline.outcome(out | {"ipv6_src": STRANGER, "ipv4_src": bytes(4)})
        assert spoofed.where == DROP, f"a packet of nobody goes to {spoofed.where}"

    def check_rest(self) -> None:
        """Check, at rest, that packets of what is said to be active go direct, both ways."""
        pipeline = Pipeline(entry.flow for entry in self.switch.flows.values())
        for binding in self.offload.bindings:
            if self.offload.states.of(binding, self.now).state != "active":
                continue
            octets = len(binding.home_address.packed)
            source = STRANGER if octets == 16 else bytes(4)
            sent = pipeline.outcome(_packet(source, binding.home_address.packed))
            assert sent.where == TUNNEL, "active, and its packets do not go direct"
            assert sent.packet["tun_ipv6_dst"] == binding.care_of_address, "active elsewhere"
            tunnelled = _packet(binding.care_of_address, HOME_AGENT) | {"ip_proto": PROTOCOLS[octets]}
            assert pipeline.outcome(tunnelled).where == LOCAL, "active, and its tunnel packets go on"
            out = _packet(binding.home_address.packed, source) | {"tun_ipv6_src": binding.care_of_address}
            out |= {"in_port": PORTS["rx"], "pkt_mark": 0}
            assert pipeline.outcome(out).where == LOCAL, "active, and its packets are dropped behind the tunnel"


def _packet(source: bytes, destination: bytes) -> Packet:
    """Return a datagram of 100 octets, not fragmented."""
    family = "ipv6" if len(destination) == 16 else "ipv4"
    ends = {f"{family}_src": source, f"{family}_dst": destination}
    head = {"in_port": 1, "eth_type": ETH_TYPES[len(destination)], "ip_proto": 17, "nw_ttl": 64, "ip_frag": 0}
    return {**head, **ends, "length": 100}


def _check_guarded(pipeline: Pipeline, packet: Packet) -> None:
    """Check that what must stay with the home agent does, where other packets go direct."""
    kept = [{"nw_ttl": hops} for hops in (0, 1)]
    if packet["eth_type"] == ETH_TYPES[16]:
        kept += [{"ip_proto": 135}, *({"ip_proto": 58, "icmpv6_type": type_} for type_ in NEIGHBOUR_DISCOVERY)]
    else:
        kept += [{"length": 1500}, {"ip_frag": 1}, {"ip_frag": 3}]
    for fields in kept:
        assert pipeline.outcome(packet | fields).where == NORMAL, f"a packet with {fields} leaves the home agent"
