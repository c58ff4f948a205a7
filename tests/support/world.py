# SPDX-License-Identifier: Apache-2.0
"""The controller's logic with a switch, a tunnel agent and a home agent that are a few lines each."""

from collections.abc import Iterable, Mapping
from typing import Any

from controller.core.batches import Batch
from controller.core.bindings import Binding, Change
from controller.core.demand import Install
from controller.core.flow_changes import FlowChange
from controller.core.flows import Flow, FlowKey, Kind, Normal, Output
from controller.core.home_agents import Status
from controller.core.installed import FlowEntry
from controller.core.offload import Offload
from controller.core.router import Router, Timing
from controller.core.snapshots import SnapshotResult
from controller.core.tunnels import EndpointName
from hoaflow.addresses import Prefix, format_address, parse_address, parse_prefix
from tests.support.told_flows import tell

HOME_AGENT = parse_address("2001:db8:99::1")
HOME_PREFIX = parse_prefix("2001:db8:99::/64")
HOME_ADDRESSES = [parse_prefix(f"2001:db8:99::{number:x}") for number in (0x100, 0x101, 0x102)]
HOME_ADDRESS = HOME_ADDRESSES[0]
CARE_OF_ADDRESSES = [parse_address(f"2001:db8:{link}::2") for link in (2, 3)]
FIRST, SECOND = CARE_OF_ADDRESSES
DPID = 1
LEASE = 10
TIMING = Timing(agent_lease=10.0, acknowledge_within=3.0, forget_after=600.0)
ENDPOINTS = {HOME_AGENT: EndpointName("tin", "02:00:00:00:00:0a")}
PORTS = {"tin": 3}


def binding(
    home_address: Prefix = HOME_ADDRESS,
    care_of_address: bytes = FIRST,
    lifetime: int | None = 60,
    sequence: int | None = None,
    now: float = 0.0,
    withheld: str | None = None,
) -> Binding:
    """Return a binding of HOME_AGENT."""
    ends = None if lifetime is None else now + lifetime
    return Binding(home_address, care_of_address, HOME_AGENT, lifetime, ends, sequence, withheld)


class World:
    """A controller with everything around it. `tunnels` is what the router's kernel holds, `switch` its flows."""

    INSTALL = Install.EVERYTHING

    def __init__(self) -> None:
        self.now = 1000.0
        self.switch: dict[FlowKey, FlowEntry] = {}
        self.tunnels: dict[Prefix, bytes] = {}
        self.sent = 0
        self.lives = 0
        self.start_controller()

    def start_controller(self, ports: Mapping[str, int] = PORTS) -> None:
        """Start the controller anew: it knows nothing but what the switch tells."""
        self.lives += 1
        self.offload = Offload(TIMING, (Normal(),), self.lives * 1_000_000, self.INSTALL)
        self.revision = 0
        self.connect(DPID, ports, self.switch.values(), [])

    def announce(self, status: Status = Status.UP) -> None:
        """Renew the lease, as the bridge does."""
        self.offload.announce(HOME_AGENT, (HOME_PREFIX,), LEASE, status, self.now)

    def snapshot(self, *bindings: Binding) -> SnapshotResult:
        """Send the whole cache, as the bridge does."""
        with self.offload.snapshot(HOME_AGENT, self.now) as snapshot:
            snapshot.take_in(enumerate(bindings), self.now)
            while not snapshot.complete(self.now):
                self.offload.tick(self.now)
        return snapshot.result

    def post(self, *args: Any, **kwargs: Any) -> Change:
        """Send one binding as of now, as the bridge does."""
        return self.offload.report(binding(*args, **{**kwargs, "now": self.now}), self.now)

    def agent_starts(self) -> None:
        """Announce a tunnel agent; the kernel still has what an earlier one left."""
        self.revision = 0
        self.offload.acknowledge(DPID, 0, ENDPOINTS, {}, {}, self.now)

    def agent_follows(self) -> None:
        """Ask for what is new, apply it and acknowledge, as the agent does."""
        router = self.offload.renew_agent_lease(DPID, self.now)
        news = router.tunnels.difference(self.revision)
        if news.full and any(agent.synced for agent in self.offload.home_agents):
            self.tunnels = {}
        self.tunnels.update({tunnel.home_address: tunnel.care_of_address for tunnel in news.tunnels})
        for home_address in news.removed:
            self.tunnels.pop(home_address, None)
        self.revision = news.revision
        self.offload.acknowledge(DPID, self.revision, ENDPOINTS, {}, {}, self.now)

    def connect(
        self, dpid: int, ports: Mapping[str, int], entries: Iterable[FlowEntry], foreign: Iterable[FlowKey]
    ) -> Router:
        """Connect a switch that has these flows of ours, and others' with those keys."""
        reading = self.offload.switches.begin_reading(dpid, self.now)
        tell(reading, entries)
        for key in foreign:
            reading.add_foreign(key)
        return self.offload.switches.connect(dpid, ports, self.now)

    def deliver(self) -> None:
        """Let the switch carry out what is due, until nothing is."""
        router = self.offload.router(DPID)
        for _ in range(10):
            batch = self.next_batch()
            if batch is not None:
                self.carry_out(batch)
            elif not router.flows.dirty:
                return
        raise AssertionError("the controller never comes to rest")

    def next_batch(self) -> Batch | None:
        """Return what is due for the switch."""
        router, next_batch = self.offload.router(DPID), self.offload.switches.next_batch
        return next_batch(router, True, self.now, 1000) or next_batch(router, False, self.now, 1000)

    def refuse(self, kind: Kind, reason: str) -> None:
        """Let the switch refuse the due flows of a kind, and carry out the others."""
        batch = self.next_batch()
        assert batch is not None
        refused = {position: reason for position, each in enumerate(batch.changes) if each.flow.kind is kind}
        for position, change in enumerate(batch.changes):
            if position not in refused:
                self._apply(change)
        self.offload.switches.refuse(self.offload.router(DPID), batch, refused, True, self.now)

    def carry_out(self, batch: Batch) -> None:
        """Let the switch carry out a batch and confirm it."""
        for change in batch.changes:
            self._apply(change)
        self.offload.switches.confirm(self.offload.router(DPID), batch, self.now)

    def _apply(self, change: FlowChange) -> None:
        self.sent += 1
        if change.add:
            assert (change.flow.kind is Kind.GATE) == (change.hard_timeout > 0), "gates end, and only they"
            self.switch[change.flow.key] = FlowEntry(change.flow, change.expires_at)
        else:
            self.switch.pop(change.flow.key, None)

    def pass_time(self, seconds: float, controller: bool = True) -> None:
        """Let time pass, for the switch in any case."""
        end = self.now + seconds
        while controller:
            deadline = self.offload.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(deadline, self.now)
            self.offload.tick(self.now)
            self.deliver()
        self.now = end
        self.switch = {
            key: entry for key, entry in self.switch.items() if entry.expires_at is None or entry.expires_at > end
        }

    def next_hop(self, home_address: Prefix = HOME_ADDRESS) -> str:
        """Return where a packet for a home address goes: to a care-of address, or `home agent`."""
        flows = [entry.flow for entry in self.switch.values()]
        gates = [flow for flow in flows if flow.kind is Kind.GATE and flow.serves == HOME_PREFIX]
        into_tunnel = [flow for flow in flows if flow.kind is Kind.DOWNLINK and flow.serves == home_address]
        if not gates or not into_tunnel or home_address not in self.tunnels:
            return "home agent"
        assert into_tunnel[0].actions[-1] == Output(3)
        return format_address(self.tunnels[home_address])

    def state(self, home_address: Prefix = HOME_ADDRESS) -> str:
        """Return a binding's state as the REST API tells it."""
        held = self.offload.binding(home_address)
        return "none" if held is None else self.offload.states.of(held, self.now).state

    def flows(self, kind: Kind) -> list[Flow]:
        """Return the switch's flows of a kind."""
        return [entry.flow for entry in self.switch.values() if entry.flow.kind is kind]

    def event_names(self) -> list[str]:
        """Return what was reported since last asked."""
        return [event.name for event in self.offload.take_events()]


def established() -> World:
    """Start everything, with a mobile node registered on the first foreign link whose traffic goes direct."""
    world = World()
    world.announce()
    world.snapshot()
    world.agent_starts()
    world.deliver()
    world.post(sequence=1)
    world.deliver()
    assert world.next_hop() == "home agent"  # not before the agent has acknowledged
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "2001:db8:2::2"
    assert world.state() == "active"
    return world
