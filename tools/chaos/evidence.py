# SPDX-License-Identifier: Apache-2.0
"""Hold what a run is judged by, and what the judgement came to: pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.chaos.addresses import FORGED, Plan
from tools.chaos.pace import Pace
from tools.chaos.packets import Kind, Record
from tools.chaos.timeline import Claim, Disturbance, Inventory, Move, Objection

DRAIN = 2.0  # seconds, longer than any packet is under way


@dataclass(frozen=True)
class Violation:
    """Say which promise was broken, when, and by which packets."""

    check: str
    at: float
    text: str
    records: tuple[Record, ...] = ()


@dataclass
class Evidence:
    """Hold all that a run is judged by.

    settled: the times at which all was direct, before the next step. gave_up: when that was waited for in vain, None if
    it never was. pace: all bounds are in its seconds.
    """

    plan: Plan
    points: Sequence[tuple[str, str]]
    records: Sequence[Record]
    disturbances: Sequence[Disturbance]
    moves: Sequence[Move]
    claims: Sequence[Claim] = ()
    before: Inventory | None = None
    after: Inventory | None = None
    settled: Sequence[float] = ()
    gave_up: float | None = None
    pace: Pace = field(default_factory=Pace)
    objections: Sequence[Objection] = ()


@dataclass
class Packet:
    """Follow one packet of a flow."""

    sent: Record
    received: bool = False
    by_home_agent: bool = False


@dataclass
class Verdict:
    """Say what a run came to; losses are by fault, `move` or `nothing`; recovery in seconds by fault."""

    violations: list[Violation] = field(default_factory=list)
    sent: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, float] = field(default_factory=dict)


def follow(evidence: Evidence) -> dict[int, list[Packet]]:
    """Return each flow's packets in the order in which they were sent."""
    home_agents = {each.name for each in evidence.plan.anchors}
    at_home_agent = {number for number, (node, _) in enumerate(evidence.points) if node in home_agents}
    packets: dict[int, dict[int, Packet]] = defaultdict(dict)
    for record in evidence.records:
        if record.kind is Kind.SENT and record.flow != FORGED:
            packets[record.flow][record.number] = Packet(record)
    for record in evidence.records:
        packet = packets.get(record.flow, {}).get(record.number)
        if packet is None:
            continue
        packet.received |= record.kind is Kind.RECEIVED
        packet.by_home_agent |= record.kind is Kind.SEEN and record.point in at_home_agent
    last = max((record.at for record in evidence.records), default=0.0) - DRAIN
    return {flow: [each for each in found.values() if each.sent.at < last] for flow, found in packets.items()}
