# SPDX-License-Identifier: Apache-2.0
"""Compute the figures of the demo of distributed mobility, print them as a table, and check its promises."""

import statistics
from typing import Any

from tools.demo.distributed import LAST, Passage, Seen
from tools.demo.figures import Check
from tools.demo.sessions import CENTRAL, DISTRIBUTED, Session

ARCHITECTURES = (CENTRAL, DISTRIBUTED)
HIT = 0.1
"""A session is hit by an anchor's death if it loses this part of its packets, or more."""
ROWS = (
    ("round trip of a session begun here (median)", "rtt_here_ms", " ms"),
    ("round trip of sessions begun elsewhere (median)", "rtt_elsewhere_ms", " ms"),
    ("links crossed there and back, begun here", "links_here", ""),
    ("links crossed there and back, begun elsewhere", "links_elsewhere", ""),
    ("packets lost in a handover (median)", "lost_packets_handover", ""),
    ("packets lost by a session that leaves its anchor", "lost_packets_leaving_anchor", ""),
    ("sessions hit while one anchor was dead, of 3", "sessions_hit", ""),
    ("packets that they lost", "lost_packets_dead", ""),
)


def figures(seen: Seen) -> dict[str, Any]:
    """Compute the figures of report.json: for each pass those of each architecture, and the load of each anchor.

    begun here: at the site where the mobile node was when it was measured. lost_packets_handover: both ways, of
    sessions whose home agent is on neither link. …_leaving_anchor: of those that leave their home agent's link, which
    takes a second for duplicate address detection (RFC 6275, section 10.3.1). load: data packets that reached an anchor
    per 100 sent each way in one session.
    """
    return {
        "without": _of_pass(seen.sessions, seen.without),
        "hoaflow": _of_pass(seen.sessions, seen.offloaded),
        "released": seen.released,
    }


def _of_pass(sessions: list[Session], passage: Passage) -> dict[str, Any]:
    sent = statistics.mean(session.sent(passage.steady) for session in sessions)
    if not sent:
        raise ValueError("no traffic was sent while the anchors' load was measured")
    found: dict[str, Any] = {
        architecture: _of_architecture(sessions, passage, architecture) for architecture in ARCHITECTURES
    }
    found["load"] = {anchor: round(200 * packets / sent, 1) for anchor, packets in passage.load.items()}
    found["paths"] = {session.name: str(path) for session, path in zip(sessions, passage.paths, strict=True)}
    return found


def _of_architecture(sessions: list[Session], passage: Passage, architecture: str) -> dict[str, Any]:
    chosen = [(s, p) for s, p in zip(sessions, passage.paths, strict=True) if s.architecture == architecture]
    here = [pair for pair in chosen if pair[0].site == LAST]
    elsewhere = [pair for pair in chosen if pair[0].site != LAST]
    handovers, leaving = [], []
    for move in passage.handovers:
        for session, _ in chosen:
            if session.away(move.before, move.after):
                handovers.append(session.lost(move.span))
            elif not session.away(move.before):
                leaving.append(session.lost(move.span))
    losses = [(session.lost(passage.outage), session.sent(passage.outage)) for session, _ in chosen]
    hit = [lost for lost, sent in losses if lost >= HIT * sent]
    return {
        "rtt_here_ms": _round_trip(here, passage),
        "rtt_elsewhere_ms": _round_trip(elsewhere, passage),
        "links_here": statistics.median(path.links for _, path in here),
        "links_elsewhere": statistics.median(path.links for _, path in elsewhere),
        "lost_packets_handover": statistics.median(handovers),
        "lost_packets_leaving_anchor": statistics.median(leaving) if leaving else None,
        "sessions_hit": len(hit),
        "lost_packets_dead": sum(lost for lost, _ in losses),
    }


def _round_trip(chosen: list[tuple[Session, Any]], passage: Passage) -> float:
    return round(statistics.median(session.round_trip(passage.steady) for session, _ in chosen), 2)


def table(found: dict[str, Any], made: list[Check]) -> str:
    """Return the comparison and the promises as text, as they are printed at the end."""
    columns = [found[part][architecture] for part in ("without", "hoaflow") for architecture in ARCHITECTURES]
    lines = ["", f"{'':48}{'without hoaflow':>26}{'with hoaflow':>26}"]
    lines.append(f"{'':48}" + "".join(f"{name:>13}" for name in ARCHITECTURES * 2))
    for title, key, unit in ROWS:
        lines.append(f"{title:48}" + "".join(f"{_cell(column[key], unit):>13}" for column in columns))
    lines.append("data packets at each anchor, per 100 each way in one session")
    for anchor in found["without"]["load"]:
        own = 0 if anchor == "ha" else 1
        cells = [""] * 4
        cells[own], cells[own + 2] = (str(found[part]["load"][anchor]) for part in ("without", "hoaflow"))
        lines.append(f"    {anchor:44}" + "".join(f"{cell:>13}" for cell in cells))
    lines.append("")
    lines += [f"{'kept  ' if check.kept else 'BROKEN'}  {check.promise}: {check.figure}" for check in made]
    return "\n".join(lines)


def _cell(figure: float | None, unit: str) -> str:
    return "-" if figure is None else f"{figure:g}{unit}"


def checks(found: dict[str, Any], log_errors: list[str]) -> list[Check]:
    """Compare the figures with what the demo promises, log lines with errors included."""
    central, distributed = (found["without"][architecture] for architecture in ARCHITECTURES)
    direct = [found["hoaflow"][architecture] for architecture in ARCHITECTURES]
    links = f"{distributed['links_here']} against {central['links_here']}"
    hit = f"{distributed['sessions_hit']} against {central['sessions_hit']}"
    lost = sum(each["lost_packets_dead"] for each in direct)
    load = sum(found["hoaflow"]["load"].values())
    longest = max(each[key] for each in direct for key in ("links_here", "links_elsewhere"))
    return [
        Check("a session begun here takes fewer links", links, distributed["links_here"] < central["links_here"]),
        Check(
            "one dead anchor of the sites hits its own session alone",
            hit,
            (distributed["sessions_hit"], central["sessions_hit"]) == (1, 3),
        ),
        Check("with hoaflow no packet is lost with two anchors dead", str(lost), lost == 0),
        Check("with hoaflow no data packet at any anchor", str(load), load == 0),
        Check("with hoaflow no session takes a longer way than by core", str(longest), longest <= 8),
        Check("the home address of an ended session is let go", str(found["released"]), found["released"]),
        Check("no unexpected error in any log", str(len(log_errors)), not log_errors),
    ]
