# SPDX-License-Identifier: Apache-2.0
"""Compute the report's figures from what the demo observed, and check its promises."""

import statistics
from typing import Any, NamedTuple

from tools.demo.journey import CONTROLS, Observations
from topologies.deployment import HOME
from topologies.traffic import Span, median_rtt

# Seconds before a move that belong to it: packets under way are lost with the link they go to. Not slowed down.
LEAD = 0.3


class Check(NamedTuple):
    """Record a promise, the measured figure, and whether the promise was kept."""

    promise: str
    figure: str
    kept: bool


def move_spans(seen: Observations) -> list[Span]:
    """Return for each move the span of time whose losses count as that move's."""
    spans = []
    lead = LEAD * seen.slowdown
    ends = [move.left - lead for move in seen.moves[1:]] + [max(seen.correspondent.sent.values())]
    for move, end in zip(seen.moves, ends, strict=True):
        start = move.left - lead
        inside = start < seen.outage.start < end
        spans.append(Span(start, seen.outage.start - lead if inside else end))
    return spans


def figures(seen: Observations) -> dict[str, Any]:
    """Compute the figures of report.json, named and measured as follows.

    anchor: what traffic goes by without hoaflow; `ha` in the other names stands for it.
    rtt_…_ms: medians, of steady traffic away from home; via_ha: without hoaflow, direct: with it.
    ha_data_packets_…: data packets that reached the home agent, per 100 sent in each direction.
    activation_ms: from the Binding Acknowledgement to the flows' confirmation by all switches, one per move.
    lost_packets_handover_…: lost in a handover from one foreign link to another, both directions, the median.
    lost_packets_ha_killed: lost from the home agent's death to its return, `ha_killed_seconds` later.
    spoofed_…: packets forged on a foreign link; control_…: the same with both sources right.
    repeated_packets: that arrived twice.
    moves: each move with what it lost, both directions.
    """
    losses = [len(seen.lost_at(span)) for span in move_spans(seen)]
    moves = [
        {
            "to": move.name,
            "offload": move.offload,
            "lost_packets": count,
            "acknowledged_ms": round(1000 * (move.acknowledged - move.left), 1),
            "activation_ms": None if move.confirmed is None else round(1000 * (move.confirmed - move.acknowledged), 1),
        }
        for move, count in zip(seen.moves, losses, strict=True)
    ]

    outage = Span(seen.outage.start - LEAD * seen.slowdown, seen.outage.end)
    return {
        "anchor": seen.anchor,
        "rtt_via_ha_ms": round(median_rtt(seen.correspondent, seen.via_ha), 2),
        "rtt_direct_ms": round(median_rtt(seen.correspondent, seen.direct), 2),
        "ha_data_packets_via_ha": per_hundred(seen, seen.via_ha, seen.via_ha_load),
        "ha_data_packets_direct": per_hundred(seen, seen.direct, seen.direct_load),
        "activation_ms": [move["activation_ms"] for move in moves if move["offload"] and move["to"] != "home"],
        "lost_packets_handover_via_ha": statistics.median(handover_losses(seen, losses, offload=False)),
        "lost_packets_handover_direct": statistics.median(handover_losses(seen, losses, offload=True)),
        "lost_packets_ha_killed": len(seen.lost_at(outage)),
        "ha_killed_seconds": round(seen.outage.end - seen.outage.start, 1),
        "spoofed_sent": seen.spoofed_sent,
        "spoofed_passed": seen.spoofed_passed,
        "control_sent": CONTROLS,
        "control_passed": seen.controls_passed,
        "repeated_packets": seen.correspondent.repeated + seen.mobile.repeated,
        "moves": moves,
    }


def handover_losses(seen: Observations, losses: list[int], offload: bool) -> list[int]:
    """Return the losses of each handover between foreign links; `losses` has those of all moves, in order.

    Leaving home is not one: the home agent then takes a second for duplicate address detection, on either path.
    """
    found = []
    for before, move, count in zip(seen.moves, seen.moves[1:], losses[1:], strict=False):
        if move.offload == before.offload == offload and HOME not in (before.link, move.link):
            found.append(count)
    return found


def per_hundred(seen: Observations, span: Span, packets: int) -> float:
    """Scale `packets` counted within `span` to 100 packets sent in each direction.

    Raises ValueError when nothing was sent.
    """
    sent = sum(span.start <= at < span.end for end in (seen.correspondent, seen.mobile) for at in end.sent.values())
    if not sent:
        raise ValueError("no traffic was sent while the anchor's load was measured")
    return round(200 * packets / sent, 1)


def checks(found: dict[str, Any], log_errors: list[str]) -> list[Check]:
    """Compare the figures with what the demo promises, log lines with errors included."""

    def check(promise: str, figure: object, kept: bool) -> Check:
        return Check(promise, str(figure), kept)

    anchor = found["anchor"]
    via, direct = found["lost_packets_handover_via_ha"], found["lost_packets_handover_direct"]
    load, load_via = found["ha_data_packets_direct"], found["ha_data_packets_via_ha"]
    rtt, killed, passed = found["rtt_direct_ms"], found["lost_packets_ha_killed"], found["spoofed_passed"]
    return [
        check(f"no data packet at the {anchor}", load, load == 0),
        check("(without hoaflow all of them, 200 per 100 each way)", load_via, 190 <= load_via <= 210),
        check("a shorter round trip", f"{rtt} ms", rtt < found["rtt_via_ha_ms"]),
        check(f"no more losses in handovers than via the {anchor}", f"{direct} against {via}", direct <= via),
        check(f"no packet lost with the {anchor} dead", killed, killed == 0),
        check("no spoofed packet passes", passed, passed == 0),
        check("(packets with both sources right do)", found["control_passed"], found["control_passed"] == CONTROLS),
        check("no unexpected error in any log", len(log_errors), not log_errors),
    ]
