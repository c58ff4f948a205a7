# SPDX-License-Identifier: Apache-2.0
"""Show what a run came to: its violations with timeline and packets, and its row for `docs/reliability.md`."""

import socket
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tools.chaos.evidence import Evidence, Verdict, Violation
from tools.chaos.packets import NOWHERE, Record
from tools.chaos.schedule import Step

AROUND = 60.0  # seconds of the timeline before a violation


def clock(at: float) -> str:
    """Return a time as the logs of the run have it."""
    return time.strftime("%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 10)}"


def timeline(evidence: Evidence, since: float, until: float) -> list[str]:
    """Return what was done within a span of time, a line each."""
    events = [(each.start, f"{each.fault} ({each.target}) begins") for each in evidence.disturbances]
    events += [(each.end, f"{each.fault} ({each.target}) ends") for each in evidence.disturbances]
    events += [
        (each.at, f"{each.node} moves to {f'link{each.link}' if each.link else 'its home link'}")
        for each in evidence.moves
    ]
    return [f"{clock(at)}  {text}" for at, text in sorted(events) if since <= at <= until]


def packet(evidence: Evidence, record: Record) -> str:
    """Return a packet as one line."""
    flows = {flow.number: flow for flow in evidence.plan.flows()}
    flow = flows.get(record.flow)
    what = "forged packet" if flow is None else f"{flow.source} to {flow.destination}"
    where = " at {} {}".format(*evidence.points[record.point]) if record.kind.name == "SEEN" else ""
    outer = ""
    if record.outer_destination != NOWHERE:
        ends = (socket.inet_ntop(socket.AF_INET6, each) for each in (record.outer_source, record.outer_destination))
        outer = " in a tunnel from {} to {}".format(*ends)
    return f"{clock(record.at)}  {what}, number {record.number}, {record.kind.name.lower()}{where}{outer}"


def violation(evidence: Evidence, found: Violation) -> list[str]:
    """Return a violation with its timeline and packets, as lines."""
    lines = [f"VIOLATION ({found.check}) at {clock(found.at)}: {found.text}"]
    lines += [f"    {line}" for line in timeline(evidence, found.at - AROUND, found.at + AROUND)]
    return lines + [f"    {packet(evidence, record)}" for record in found.records]


def row(seed: int, seconds: float, evidence: Evidence, verdict: Verdict, errors: Sequence[str]) -> dict[str, Any]:
    """Return a run's figures."""
    worst = max(verdict.recovery.items(), key=lambda item: item[1], default=("none", 0.0))
    return {
        "seed": seed,
        "minutes": round(seconds / 60, 1),
        "faults": dict(Counter(each.kind for each in evidence.disturbances)),
        "moves": len(evidence.moves),
        "sent": verdict.sent,
        "lost": dict(verdict.lost),
        "slowness": {"mean": round(evidence.pace.mean, 1), "worst": round(evidence.pace.worst, 1)},
        "worst_recovery": {"fault": worst[0], "seconds": round(worst[1], 1)},
        "recovery": {name: round(seconds, 1) for name, seconds in sorted(verdict.recovery.items())},
        "violations": [f"({each.check}) {each.text}" for each in verdict.violations],
        "errors": list(errors),
    }


def sequence(steps: Sequence[Step]) -> list[str]:
    """Return steps as lines."""
    return [f"    {number}. {step}" for number, step in enumerate(steps, 1)]
