# SPDX-License-Identifier: Apache-2.0
"""Judge a run from its packets and the faults injected: pure.

The checks, by the letters of their violations:
a: no packet goes to a care-of address that is no longer its node's, later than the bound;
b: nothing comes out of a tunnel with a wrong pair of addresses, and nothing goes into one;
c: nothing is lost but within the bounds of faults and moves;
d: where a controller says `active`, packets go direct; once they do, nothing says otherwise;
e: after the last fault all is direct again, within the bound;
f: no memory, descriptor or namespace is left over;
g: no packet goes in circles.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from tools.chaos.addresses import FORGED, Flow, Plan
from tools.chaos.evidence import Evidence, Packet, Verdict, Violation, follow
from tools.chaos.location import Location
from tools.chaos.packets import NOWHERE, Kind, Record, octets, size
from tools.chaos.timeline import LEASE_ENDS, RECOVERED, Claim, Move

LEAD = 0.5  # seconds before a fault or move that belong to it: packets under way are lost with what they are on
MOVED = 3.0  # seconds after a move's acknowledgement until packets follow, and as many for the acknowledgement itself
STALE = 5.0  # seconds in which packets may go to a former care-of address while nothing is broken
DISAGREEING = 10.0  # seconds in which the API may say `active` of packets that take the home agent's path
SETTLED = 1.0  # seconds in which all is direct before the next fault is due
GROWTH = 64.0  # MiB
DESCRIPTORS = 40
PASSES, WITHIN = 25, 1.0  # times that a packet may pass one link, and the seconds in which it may
MOST_RECORDS = 8  # of a violation, for its report


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on a run."""
    location = Location(evidence.plan, evidence.moves, evidence.records)
    packets = follow(evidence)
    verdict = Verdict(sent=sum(len(each) for each in packets.values()))
    verdict.violations += _stale(evidence, location)
    verdict.violations += _wrong_pairs(evidence)
    verdict.violations += _losses(evidence, location, packets, verdict)
    verdict.violations += _disagreements(evidence, location, packets)
    verdict.violations += _recoveries(evidence, location, packets, verdict)
    verdict.violations += _leftovers(evidence)
    verdict.violations += _circles(evidence)
    verdict.violations.sort(key=lambda each: each.at)
    return verdict


# a


def _stale(evidence: Evidence, location: Location) -> Iterable[Violation]:
    owners = _owners(evidence.plan)
    found: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.records:
        node = owners.get(record.outer_destination) if record.kind is Kind.SEEN else None
        if node is None:
            continue
        left = location.left(node, record.outer_destination, record.at)
        if left is not None and evidence.pace.between(left, record.at) > _stale_bound(evidence, left, record.at):
            found[node].append(record)
    for node, records in found.items():
        text = f"{len(records)} packets went to a care-of address that {node} had left, up to {records[-1].at:.1f}"
        yield Violation("a", records[0].at, text, tuple(records[:MOST_RECORDS]))


def _stale_bound(evidence: Evidence, left: float, at: float) -> float:
    broken = any(
        each.start - LEAD < at and left < evidence.pace.after(each.end, RECOVERED) for each in evidence.disturbances
    )
    return LEASE_ENDS if broken else STALE


def _owners(plan: Plan) -> dict[bytes, str]:
    return {octets(node.care_of_address(link)): node.name for node in plan.mobile_nodes for link in node.links}


# b


def _wrong_pairs(evidence: Evidence) -> Iterable[Violation]:
    owners = _owners(evidence.plan)
    flows = {flow.number: flow for flow in evidence.plan.flows()}
    home_agent = {node.name: octets(node.home_agent.address) for node in evidence.plan.mobile_nodes}
    forged, crossed = [], []
    for record in evidence.records:
        bare = record.outer_destination == NOWHERE
        if record.flow == FORGED:
            if record.kind is Kind.RECEIVED or (record.kind is Kind.SEEN and bare):
                forged.append(record)
        elif record.kind is Kind.SEEN and record.outer_destination in owners:
            node = owners[record.outer_destination]
            if flows[record.flow].destination != node or record.outer_source != home_agent[node]:
                crossed.append(record)
    for records, text in ((forged, "forged packets came out of a tunnel"), (crossed, "packets in a wrong tunnel")):
        if records:
            yield Violation("b", records[0].at, f"{len(records)} {text}", tuple(records[:MOST_RECORDS]))


# c


def _losses(
    evidence: Evidence, location: Location, packets: dict[int, list[Packet]], verdict: Verdict
) -> Iterable[Violation]:
    for flow in evidence.plan.flows():
        unexcused = []
        for packet in packets.get(flow.number, []):
            if packet.received:
                continue
            reason = _excuse(evidence, location, flow, packet.sent)
            verdict.lost[reason or "nothing"] += 1
            if reason is None:
                unexcused.append(packet.sent)
        if unexcused:
            text = f"{len(unexcused)} packets from {flow.source} to {flow.destination} were lost"
            text += f" from {unexcused[0].at:.1f} to {unexcused[-1].at:.1f}, outside of all bounds"
            yield Violation("c", unexcused[0].at, text, tuple(unexcused[:MOST_RECORDS]))


def _excuse(evidence: Evidence, location: Location, flow: Flow, sent: Record) -> str | None:
    """Return the fault, or `move`, for which a packet of a flow may be lost: one since all was direct."""
    at = sent.at
    settled = max((each for each in evidence.settled if each <= at), default=0.0)
    for each in evidence.disturbances:
        until = each.may_lose_until(evidence.pace, size(flow, sent.number))
        if each.loss is not None and settled <= each.start and each.start - LEAD <= at <= until:
            around = location.places(flow, at) | location.places(flow, each.start)
            if not each.places or each.places & around:
                return each.fault
    for node in location.ends(flow):
        for move in location.moves[node.name]:
            if settled <= move.at and move.at - LEAD <= at <= _moved(evidence, location, move):
                return "move"
    return None


def _moved(evidence: Evidence, location: Location, move: Move) -> float:
    """Return when packets must have followed a move.

    While something is broken, a mobile node may not be able to register, and packets take a lease to be the home
    agent's again.
    """
    arrived, after = location.arrived(move), evidence.pace.after
    end = _followed(evidence, location, move)
    for each in evidence.disturbances:
        if each.start <= end and move.at <= after(each.end, LEASE_ENDS):
            end = max(end, after(each.end if arrived is None else arrived, LEASE_ENDS))
    return end


def _followed(evidence: Evidence, location: Location, move: Move) -> float:
    """Return when packets must have followed a move while nothing is broken."""
    arrived = location.arrived(move)
    return evidence.pace.after(move.at, 2 * MOVED) if arrived is None else evidence.pace.after(arrived, MOVED)


# d


def _disagreements(evidence: Evidence, location: Location, packets: dict[int, list[Packet]]) -> Iterable[Violation]:
    for objection in evidence.objections:
        yield Violation("d", objection.at, f"all was direct, but was still said not to be: {objection.text}")
    for node in evidence.plan.mobile_nodes:
        spans = _active(evidence.claims, node.binding)
        for flow in evidence.plan.flows():
            if {flow.source, flow.destination} != {"cn", node.name}:
                continue
            for start, end in spans:
                received = (p for p in packets.get(flow.number, []) if p.received and start <= p.sent.at <= end)
                if wrong := _longest_detour(evidence, location, node.name, received):
                    text = f"{node.binding} was said to be active, while {len(wrong)} packets from {flow.source}"
                    text += f" to {flow.destination} took the home agent's path, up to {wrong[-1].at:.1f}"
                    yield Violation("d", wrong[0].at, text, tuple(wrong[:MOST_RECORDS]))


def _longest_detour(evidence: Evidence, location: Location, node: str, packets: Iterable[Packet]) -> list[Record]:
    """Return packets in a row that took the home agent's path for longer than they may."""

    def too_long() -> bool:
        return bool(detour) and evidence.pace.between(detour[0].at, detour[-1].at) > DISAGREEING

    detour: list[Record] = []
    for packet in packets:
        if packet.by_home_agent and location.is_away(node, packet.sent.at):
            detour.append(packet.sent)
        elif too_long():
            break
        else:
            detour = []
    return detour if too_long() else []


def _active(claims: Iterable[Claim], home_address: str) -> list[tuple[float, float]]:
    """Return the spans of time in which whoever answered said that a binding is active."""
    spans: list[tuple[float, float]] = []
    start = last = None
    for claim in sorted((each for each in claims if each.home_address == home_address), key=lambda each: each.at):
        if claim.state == "active":
            start, last = claim.at if start is None else start, claim.at
        elif start is not None and last is not None:
            spans.append((start, last))
            start = last = None
    if start is not None and last is not None:
        spans.append((start, last))
    return spans


# e


def _recoveries(
    evidence: Evidence, location: Location, packets: dict[int, list[Packet]], verdict: Verdict
) -> Iterable[Violation]:
    """Check that all is direct again after each fault, before the next one or the end."""
    if evidence.gave_up is not None:
        yield Violation("e", evidence.gave_up, "not all was direct, however long it was waited for")
    flows = {flow.number: flow for flow in evidence.plan.flows()}
    every = sorted((p for found in packets.values() for p in found), key=lambda p: p.sent.at)
    if not every:
        yield Violation("e", 0.0, "nothing was sent")
        return
    spans = [(each, following.start - LEAD) for each, following in pairwise(evidence.disturbances)]
    spans += [(each, every[-1].sent.at) for each in evidence.disturbances[-1:]]
    times = [packet.sent.at for packet in every]
    for disturbance, until in spans:
        late, last = [], disturbance.end
        for packet in every[bisect_right(times, disturbance.end) : bisect_right(times, until)]:
            at, flow = packet.sent.at, flows[packet.sent.flow]
            if _is_direct(location, flow, packet) or _is_moving(evidence, location, flow, at):
                continue
            last = at
            if at > evidence.pace.after(disturbance.end, RECOVERED) or at > until - SETTLED:
                late.append(packet.sent)
        verdict.recovery[disturbance.fault] = max(verdict.recovery.get(disturbance.fault, 0.0), last - disturbance.end)
        if late:
            text = f"{len(late)} packets were not direct, up to {last - disturbance.end:.1f} s after the end of"
            yield Violation(
                "e", late[0].at, f"{text} {disturbance.fault} ({disturbance.target})", tuple(late[:MOST_RECORDS])
            )


def all_direct(evidence: Evidence, since: float) -> bool:
    """Tell whether all packets sent since a time went direct, and each flow sent some."""
    location = Location(evidence.plan, evidence.moves, ())
    packets = follow(evidence)
    for flow in evidence.plan.flows():
        recent = [each for each in packets.get(flow.number, []) if each.sent.at >= since]
        if not recent or not all(_is_direct(location, flow, each) for each in recent):
            return False
    return True


def _is_direct(location: Location, flow: Flow, packet: Packet) -> bool:
    if not packet.received:
        return False
    at = packet.sent.at
    return not packet.by_home_agent or not all(location.is_away(node.name, at) for node in location.ends(flow))


def _is_moving(evidence: Evidence, location: Location, flow: Flow, at: float) -> bool:
    """Tell whether an end of a flow has just moved, or is not registered where it is."""
    for node in location.ends(flow):
        for move in location.moves[node.name]:
            if move.at - LEAD <= at <= _followed(evidence, location, move):
                return True
    return False


# f


def _leftovers(evidence: Evidence) -> Iterable[Violation]:
    before, after = evidence.before, evidence.after
    if before is None or after is None:
        return
    end = max((record.at for record in evidence.records), default=0.0)
    for name, usage in after.processes.items():
        was = before.processes.get(name)
        if was is None:
            yield Violation("f", end, f"{name} runs, which did not before")
            continue
        if usage.memory - was.memory > GROWTH:
            yield Violation("f", end, f"{name} has {usage.memory:.0f} MiB of memory, {was.memory:.0f} before")
        if usage.descriptors - was.descriptors > DESCRIPTORS:
            yield Violation("f", end, f"{name} has {usage.descriptors} descriptors, {was.descriptors} before")
    for name in before.processes.keys() - after.processes.keys():
        yield Violation("f", end, f"{name} no longer runs")
    for host, names in after.namespaces.items():
        if names != before.namespaces.get(host):
            was_there = ", ".join(sorted(before.namespaces.get(host, frozenset())))
            yield Violation("f", end, f"{host} has the namespaces {', '.join(sorted(names))}; before: {was_there}")


# g


def _circles(evidence: Evidence) -> Iterable[Violation]:
    passes: dict[tuple[int, int, int], list[Record]] = defaultdict(list)
    for record in evidence.records:
        if record.kind is Kind.SEEN:
            passes[record.point, record.flow, record.number].append(record)
    found: dict[int, list[Record]] = defaultdict(list)
    for (point, _, _), records in passes.items():
        if any(last.at - first.at < WITHIN for first, last in zip(records, records[PASSES:], strict=False)):
            found[point].append(records[0])
    for point, records in found.items():
        records.sort(key=lambda each: each.at)
        node, interface = evidence.points[point]
        text = f"{len(records)} packets came to {interface} of {node} more than {PASSES} times in {WITHIN:g} s"
        yield Violation("g", records[0].at, text, tuple(records[:MOST_RECORDS]))
