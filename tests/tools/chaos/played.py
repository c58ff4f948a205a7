# SPDX-License-Identifier: Apache-2.0
"""Packets as the observer would have recorded them, of a run that keeps all promises unless it is told otherwise."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tools.chaos.addresses import FORGED, Flow, MobileNode, plan
from tools.chaos.evidence import Evidence
from tools.chaos.packets import NOWHERE, Kind, Record, octets
from tools.chaos.timeline import Claim, Disturbance, Inventory, Loss, Move

PLAN = plan(2)
ONE, OTHER = PLAN.mobile_nodes
POINTS = [("cn", "cn-eth0"), ("core", "core-r1"), ("ha1", "ha1-core"), ("ha2", "ha2-core")]
CORE = 1
SECONDS, EVERY = 60, 0.5


def at_home_agent(node: MobileNode) -> int:
    """Return the point where packets arrive at a mobile node's home agent."""
    return POINTS.index((node.home_agent.name, f"{node.home_agent.name}-core"))


@dataclass
class Played:
    """A run of SECONDS from time 0 in which ONE moves at 30 from its first to its second link.

    lost, by_home_agent: which packets are, by flow and the time at which they are sent. stale: seconds in which packets
    go on to the former care-of address.
    """

    lost: Callable[[Flow, float], bool] = lambda flow, at: False
    by_home_agent: Callable[[Flow, float], bool] = lambda flow, at: False
    stale: float = 0.2
    disturbances: list[Disturbance] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    further: list[Record] = field(default_factory=list)
    before: Inventory | None = None
    after: Inventory | None = None

    def evidence(self) -> Evidence:
        """Return what the observer has seen."""
        moves = [Move(-10.0, node.name, node.links[0]) for node in PLAN.mobile_nodes]
        moves.append(Move(30.0, ONE.name, ONE.links[1]))
        records = [registration(move) for move in moves]
        for step in range(int(SECONDS / EVERY)):
            for flow in PLAN.flows():
                records += self._packet(flow, step, step * EVERY)
            records.append(Record(step * EVERY, Kind.SENT, 0, FORGED, step))
        records += self.further
        records.sort(key=lambda each: each.at)
        return Evidence(PLAN, POINTS, records, self.disturbances, moves, self.claims, self.before, self.after)

    def _packet(self, flow: Flow, number: int, at: float) -> list[Record]:
        records = [Record(at, Kind.SENT, 0, flow.number, number)]
        node = PLAN.mobile_node(flow.destination)
        if self.by_home_agent(flow, at):
            point = at_home_agent(node or PLAN.mobile_node(flow.source) or ONE)
            records.append(Record(at, Kind.SEEN, point, flow.number, number))
        if node is not None:
            moved = node is ONE and at > 30.0 + self.stale
            tunnel = octets(node.home_agent.address), octets(node.care_of_address(node.links[moved]))
            records.append(Record(at + 0.01, Kind.SEEN, CORE, flow.number, number, *tunnel))
        if not self.lost(flow, at):
            records.append(Record(at + 0.02, Kind.RECEIVED, 0, flow.number, number))
        return records


def registration(move: Move) -> Record:
    """Return the acknowledgement that a mobile node gets right after a move."""
    node = PLAN.mobile_node(move.node)
    assert node is not None
    addresses = octets(node.home_address), octets(node.care_of_address(move.link))
    return Record(move.at + 0.1, Kind.REGISTERED, CORE, 0, 60, *addresses)


def fault(start: float, end: float, loss: Loss | None = None, *places: str) -> Disturbance:
    """Return a fault as the table has them."""
    return Disturbance("something broken", "process", "r2", start, end, loss, frozenset(places))


def bare(flow: int, at: float, number: int = 0) -> Record:
    """Return a packet that is in no tunnel any more."""
    return Record(at, Kind.SEEN, CORE, flow, number, NOWHERE, NOWHERE)
