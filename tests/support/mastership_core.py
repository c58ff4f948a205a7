# SPDX-License-Identifier: Apache-2.0
"""The real cores of a cluster's members, and switches that hold the flows that these send."""

from collections.abc import Iterable, Mapping

from controller.core.batches import Batch
from controller.core.bindings import Binding
from controller.core.flow_sets import flows_of
from controller.core.flows import Flow, FlowKey, Kind, Normal
from controller.core.home_agents import Status
from controller.core.installed import AlikeFlows, FlowEntry, ReportedFlow
from controller.core.offload import Offload
from controller.core.reasons import Reason
from controller.core.router import Router, Timing
from controller.core.sessions import Session, Sessions
from controller.core.tunnels import FlowTunnelNames
from hoaflow.addresses import Prefix, parse_address, parse_prefix

HOME_AGENT, HOME_PREFIX = parse_address("2001:db8:99::1"), parse_prefix("2001:db8:99::/64")
HOME_ADDRESSES = [parse_prefix(f"2001:db8:99::{number:x}") for number in (0x100, 0x101)]
CARE_OF_ADDRESSES = [parse_address(f"2001:db8:{link}::2") for link in (2, 3, 4)]
GATES_LAST = 10  # seconds
# The agents are not what fails here.
TIMING = Timing(agent_lease=1e9, acknowledge_within=3.0, forget_after=1e9)
PORTS = {"tx": 10, "rx": 11}
MAC, ROUTER_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
BACKEND = FlowTunnelNames("tx", "rx", parse_address("fdb1:b792:6c09::41"), MAC, ROUTER_MAC, 1440, None)
Bindings = Mapping[Prefix, bytes]  # care-of addresses


class Core:
    """One member's core, which a bridge and the routers' agents keep informed."""

    def __init__(self, dpids: Iterable[int], bindings: Bindings, now: float) -> None:
        self.offload = Offload(TIMING, (Normal(),), first_revision=1)
        self._sessions = Sessions(self.offload)
        for dpid in dpids:
            self.offload.acknowledge(dpid, 0, {}, {16: BACKEND}, {}, now, None)
        self.announce(bindings, now)

    def announce(self, bindings: Bindings, now: float) -> None:
        """Renew the home agent's lease, as its bridge does, and take in all of its bindings if they are wanted."""
        self.offload.announce(HOME_AGENT, (HOME_PREFIX,), GATES_LAST, Status.UP, now)
        home_agent = self.offload.home_agents.get(HOME_AGENT)
        if home_agent is None or not home_agent.synced:
            with self.offload.snapshot(HOME_AGENT, now) as snapshot:
                snapshot.take_in(enumerate(_binding(*each) for each in bindings.items()), now)
                while not snapshot.complete(now):
                    self.offload.tick(now)
        self.offload.tick(now)

    def report(self, home_address: Prefix, care_of_address: bytes | None, now: float) -> None:
        """Take in where a mobile node is now; None: at home."""
        if care_of_address is None:
            self.offload.remove(home_address, now)
        else:
            self.offload.report(_binding(home_address, care_of_address), now)

    def open(self, dpid: int, now: float) -> Session:
        """Return the session of a switch that has connected, and stands by."""
        session = self._sessions.open(dpid, now)
        session.stand_by(PORTS, None, now)
        return session

    def router(self, dpid: int) -> Router:
        """Return a router as this core knows it."""
        return self.offload.router(dpid)

    def known(self, dpid: int) -> dict[FlowKey, Flow]:
        """Return the flows that a switch has, by what this core knows."""
        installed = self.router(dpid).flows.installed
        keys = installed.all().keys()
        return {key: found.flow(key) for key in keys if (found := installed.get(key)) is not None}


def read(session: Session, flows: Iterable[ReportedFlow | AlikeFlows], now: float) -> None:
    """Take in all flows of a switch."""
    session.begin_reading(now)
    session.read(flows)
    session.end_reading(PORTS, now)


def has_gate(batch: Batch) -> bool:
    """Tell whether a batch opens or renews a gate."""
    return any(change.add and change.flow.kind is Kind.GATE for change in batch.changes)


class SwitchFlows:
    """The flows of a switch, and who has sent each."""

    def __init__(self) -> None:
        self._entries: dict[FlowKey, FlowEntry] = {}
        self._senders: dict[FlowKey, object] = {}

    def entries(self, now: float) -> list[FlowEntry]:
        """Return all flows that stand."""
        self._expire(now)
        return list(self._entries.values())

    def take(self, batch: Batch, sender: object) -> None:
        """Carry out a batch."""
        for change in batch.changes:
            key = change.flow.key
            self._entries.pop(key, None)
            if change.add:
                self._entries[key] = FlowEntry(change.flow, change.expires_at)
                self._senders[key] = sender

    def lose(self, key: FlowKey) -> None:
        """Lose a flow that is not to end yet."""
        del self._entries[key]

    def unknown_to(self, sender: object, known: Mapping[FlowKey, Flow], now: float) -> list[str]:
        """Return the flows that others have sent, and that a sender does not know of, though they stand."""
        self._expire(now)
        others = {key: entry.flow for key, entry in self._entries.items() if self._senders[key] is not sender}
        return [str(flow) for key, flow in others.items() if known.get(key) != flow]

    def of_bindings(self) -> set[str]:
        """Return the flows that carry mobile nodes' packets."""
        kinds = {Kind.DOWNLINK, Kind.UPLINK, Kind.VERIFY}
        return {str(entry.flow) for entry in self._entries.values() if entry.flow.kind in kinds}

    def has_gates(self, now: float) -> bool:
        """Tell whether any gate stands."""
        self._expire(now)
        return any(entry.flow.kind is Kind.GATE for entry in self._entries.values())

    def _expire(self, now: float) -> None:
        for key, entry in list(self._entries.items()):
            if entry.expires_at is not None and entry.expires_at <= now:
                del self._entries[key]


def desired(router: Router, bindings: Bindings) -> set[str]:
    """Return the flows that a router should have for bindings."""
    backend = router.desired.backend(HOME_AGENT)
    assert not isinstance(backend, Reason), backend.text
    return {str(flow) for each in bindings.items() for flow in flows_of(_binding(*each), backend).all()}


def _binding(home_address: Prefix, care_of_address: bytes) -> Binding:
    return Binding(home_address, care_of_address, HOME_AGENT)
