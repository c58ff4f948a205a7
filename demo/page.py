# SPDX-License-Identifier: Apache-2.0
"""The demo's report as one HTML page with its plots inside: nothing is fetched from anywhere."""

import html
from pathlib import Path
from typing import Any

from demo.journey import Observations
from demo.plot import Plot
from topologies.deployment import HOME

STYLE = """
:root { --text: #222; --paper: #fff; --faint: #ddd; --mark: #777; --blue: #1f5fa8; --brown: #b3541e; --red: #c0152f }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --paper: #181a1c; --faint: #3a3d40; --mark: #999 }
  :root { --blue: #79b0ef; --brown: #e8925c; --red: #ff6b7d }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
body { color: var(--text); background: var(--paper) }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2rem }
table { border-collapse: collapse }
td, th { padding: .3rem .8rem; border-bottom: 1px solid var(--faint); text-align: left }
.number { text-align: right; font-variant-numeric: tabular-nums }
.kept { color: #2a8a45 } .broken { color: var(--red); font-weight: bold }
svg { width: 100%; height: auto } svg text { font-size: 12px; fill: var(--text) } svg .mark { fill: var(--mark) }
path { fill: none } .grid { stroke: var(--faint) } .axis { stroke: var(--text) }
.move { stroke: var(--mark); stroke-dasharray: 2 3 } .outage { fill: var(--red); opacity: .15 }
.rtt { stroke: var(--blue); stroke-width: 2.5; stroke-linecap: round }
.load { stroke: var(--brown); stroke-width: 1.5 } .lost { stroke: var(--red); stroke-width: 1.5 }
"""


def write_page(path: Path, seen: Observations, report: dict[str, Any]) -> None:
    """Write the page. REPORT: what report.json holds. Raises: OSError."""
    path.write_text(
        f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>hoaflow: a mobile node roams</title><style>{STYLE}</style></head><body>
<h1>hoaflow: a mobile node roams, its traffic leaves the home agent</h1>
<p>One run of {report["seconds"]:.0f} s: the same journey twice, without and with hoaflow, under
{report["packets_per_second"]:.0f} packets a second in each direction between a correspondent node and the home
address. The home agent is {report["core_delay_ms"]:g} ms away from the core.</p>
{_comparison(report)}
<h2>Round-trip time, and packets lost</h2>
{_round_trip_plot(seen)}
<p>Dotted: the mobile node moves, to home or to foreign link 1 or 2. Shaded: the home agent is dead, and cut off
from the core. Red strokes on the axis: packets lost.</p>
<h2>Load of the home agent</h2>
{_load_plot(seen)}
<h2>Moves</h2>
{_moves(report)}
<h2>Promises</h2>
{_checks(report)}
</body></html>
"""
    )


def _row(*cells: object, tag: str = "td") -> str:
    first, *rest = (html.escape(str(cell)) for cell in cells)
    return f"<tr><{tag}>{first}</{tag}>" + "".join(f'<{tag} class="number">{cell}</{tag}>' for cell in rest) + "</tr>"


def _comparison(report: dict[str, Any]) -> str:
    rows = [
        _row("", "via the home agent", "with hoaflow", tag="th"),
        _row("round-trip time (median)", f"{report['rtt_via_ha_ms']} ms", f"{report['rtt_direct_ms']} ms"),
        _row(
            "data packets at the home agent, per 100 each way",
            report["ha_data_packets_via_ha"],
            report["ha_data_packets_direct"],
        ),
        _row(
            "packets lost in a handover between foreign links (median)",
            report["lost_packets_handover_via_ha"],
            report["lost_packets_handover_direct"],
        ),
        _row(
            f"packets lost, home agent dead for {report['ha_killed_seconds']} s", "", report["lost_packets_ha_killed"]
        ),
        _row("spoofed packets passed", "", f"{report['spoofed_passed']} of {report['spoofed_sent']}"),
    ]
    return f"<table>{''.join(rows)}</table>"


def _moves(report: dict[str, Any]) -> str:
    rows = [_row("to", "hoaflow", "acknowledged after", "then flows confirmed after", "packets lost", tag="th")]
    for move in report["moves"]:
        activation = "" if move["activation_ms"] is None else f"{move['activation_ms']} ms"
        with_hoaflow = "yes" if move["offload"] else "no"
        rows.append(_row(move["to"], with_hoaflow, f"{move['acknowledged_ms']} ms", activation, move["lost_packets"]))
    return f"<table>{''.join(rows)}</table>"


def _checks(report: dict[str, Any]) -> str:
    rows = []
    for check in report["checks"]:
        kept = "kept" if check["kept"] else "broken"
        promise, figure = html.escape(check["promise"]), html.escape(check["figure"])
        rows.append(f'<tr><td class="{kept}">{kept}</td><td>{promise}</td><td class="number">{figure}</td></tr>')
    errors = "".join(f"<li>{html.escape(error)}</li>" for error in report["log_errors"])
    return f"<table>{''.join(rows)}</table>" + (f"<ul>{errors}</ul>" if errors else "")


def _timeline(seen: Observations, label: str, low: float, high: float, logarithmic: bool = False) -> tuple[Plot, float]:
    """A plot over the time of the journey, with its marks; and the time that is second 0 in it."""
    start = min(seen.correspondent.sent.values())
    plot = Plot(max(seen.correspondent.sent.values()) - start, label, low, high, logarithmic)
    plot.shade(seen.outage.start - start, seen.outage.end - start, "outage")
    for move in seen.moves:
        plot.mark(move.left - start, "home" if move.link == HOME else str(move.link), "move")
    return plot, start


def _round_trip_plot(seen: Observations) -> str:
    rtts = seen.correspondent.rtts
    values = [rtt.milliseconds for rtt in rtts]
    plot, start = _timeline(seen, "round-trip time, ms", 0.9 * min(values), 1.1 * max(values), logarithmic=True)
    plot.points([(rtt.at - start, rtt.milliseconds) for rtt in rtts], "rtt")
    plot.strokes([at - start for at in seen.lost_at()], "lost")
    return plot.svg()


def _load_plot(seen: Observations) -> str:
    pairs = list(zip(seen.load, seen.load[1:], strict=False))
    rates = [(after.at, (after.packets - before.packets) / (after.at - before.at)) for before, after in pairs]
    plot, start = _timeline(seen, "data packets/s at the home agent", 0, 1.1 * max(rate for _, rate in rates))
    plot.steps([(at - start, rate) for at, rate in rates], "load")
    return plot.svg()
