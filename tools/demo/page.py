# SPDX-License-Identifier: Apache-2.0
"""Write the demo's report as one self-contained HTML page with plots."""

import html
from pathlib import Path
from typing import Any

from tools.demo.journey import Observations, by_backend
from tools.demo.plot import Plot
from topologies.deployment import HOME
from topologies.traffic import Span

STYLE = """
:root { --text: #222; --paper: #fff; --faint: #ddd; --mark: #6b6b6b }
:root { --blue: #1f5fa8; --brown: #b3541e; --red: #c0152f; --green: #1f7a3a }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --paper: #181a1c; --faint: #3a3d40; --mark: #a0a0a0 }
  :root { --blue: #79b0ef; --brown: #e8925c; --red: #ff6b7d; --green: #62cc84 }
}
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
body { color: var(--text); background: var(--paper); overflow-wrap: break-word }
h1 { font-size: 1.6rem; line-height: 1.25 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
table { border-collapse: collapse } caption { text-align: left; font-weight: bold; padding: .3rem .6rem }
td, th { padding: .3rem .5rem; border-bottom: 1px solid var(--faint); text-align: left; vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums } td.number { white-space: nowrap }
.kept { color: var(--green) } .broken { color: var(--red); font-weight: bold }
.side { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start } .wide { overflow-x: auto }
svg { display: block; width: 100%; min-width: 44rem; height: auto }
svg text { font-size: 13px; fill: var(--text) } svg .mark, svg .phase { fill: var(--mark) }
path { fill: none } .grid { stroke: var(--faint) } .axis { stroke: var(--text) }
.move { stroke: var(--mark); stroke-dasharray: 2 3 }
.spoofed { stroke: var(--mark) }
.starting { fill: var(--mark); opacity: .15 } .outage { fill: var(--red); opacity: .15 }
.rtt { stroke: var(--blue); stroke-width: 2.5; stroke-linecap: round }
.load { stroke: var(--brown); stroke-width: 1.5 } .lost { stroke: var(--red); stroke-width: 1.5 }
"""
LEAVING_HOME = (
    "At home they have none. Leaving home takes a second longer, in which the home agent makes sure that nobody else "
    "on the home link has the home address (duplicate address detection)."
)


def write_page(path: Path, seen: Observations, report: dict[str, Any]) -> None:
    """Write the page; `report` has the content of report.json. Raises OSError."""
    path.write_text(
        f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>hoaflow: a mobile node roams</title><style>{STYLE}</style></head><body>
<h1>hoaflow: a mobile node roams, its traffic leaves the {seen.anchor}</h1>
<p>One run of {report["seconds"]:.0f} s: the same journey twice, without and with hoaflow, under
{report["packets_per_second"]:g} packets a second in each direction between a correspondent node and the home
address. The {seen.anchor} is {report["core_delay_ms"]:g} ms away from the core.{_slowdown(report)}</p>
{_backends(seen, report)}
{_verdict(report)}
{_comparison(report)}
<h2>Round-trip time, and packets lost</h2>
<div class="wide">{_round_trip_plot(seen)}</div>
<p>Blue: round-trip times, on a logarithmic scale. Red strokes on the axis: packets lost. Dotted lines: the mobile node
moves. Right after a move with hoaflow some packets still take the way by the
{seen.anchor}, one way or both: those that were sent before the flows of the new care-of address were confirmed.</p>
<h2>Load of the {seen.anchor}</h2>
<div class="wide">{_load_plot(seen)}</div>
<p>Counted is what reaches the {seen.anchor} from the core: tunnel packets from the mobile node, and packets to the home
address. {_at_home(seen, "These reach it with hoaflow as well when the mobile node is at home, whose link it routes.")}
Forged: a stranger sends {seen.spoofed_sent} spoofed tunnel packets; those with a foreign outer source take the ordinary
way to the {seen.anchor}, which drops them.</p>
<h2>Moves</h2>
<div class="side">{_moves(report, offload=False)}{_moves(report, offload=True)}</div>
<p>Acknowledged: time until the {seen.anchor} sent the Binding Acknowledgement. Then flows: further time until all
switches had confirmed the flows. {_at_home(seen, LEAVING_HOME)}</p>
<h2>Promises</h2>
{_checks(report)}
</body></html>
"""
    )


def _at_home(seen: Observations, text: str) -> str:
    """Return a text about the home link where there is one."""
    return text if any(move.link == HOME for move in seen.moves) else ""


def _slowdown(report: dict[str, Any]) -> str:
    factor = report["slowdown"]
    if factor == 1:
        return ""
    return f" For a slow machine: that, and the time between packets, is {factor:g} times what it is else."


def _backends(seen: Observations, report: dict[str, Any]) -> str:
    """Return a sentence for each backend in use: its routers, and the reason."""
    sentences = []
    for backend, routers in by_backend(seen.backends).items():
        names, reason = html.escape(", ".join(routers)), html.escape(backend.reason)
        sentences.append(f"{names}: backend <strong>{html.escape(backend.name)}</strong>, because: {reason}.")
    return f"<p>Routers, on Linux {html.escape(report['linux'])}: {' '.join(sentences)}</p>"


def _verdict(report: dict[str, Any]) -> str:
    broken = sum(not check["kept"] for check in report["checks"])
    kind = "broken" if broken else "kept"
    text = f"{broken} of {len(report['checks'])} promises not kept." if broken else "All promises were kept."
    return f'<p class="{kind}">{text}</p>'


def _row(*cells: object, tag: str = "td") -> str:
    first, *rest = (html.escape(str(cell)) for cell in cells)
    return f"<tr><{tag}>{first}</{tag}>" + "".join(f'<{tag} class="number">{cell}</{tag}>' for cell in rest) + "</tr>"


def _comparison(report: dict[str, Any]) -> str:
    rows = [
        _row("", f"via the {report['anchor']}", "with hoaflow", tag="th"),
        _row("round-trip time (median)", f"{report['rtt_via_ha_ms']} ms", f"{report['rtt_direct_ms']} ms"),
        _row(
            f"data packets at the {report['anchor']}, per 100 each way",
            report["ha_data_packets_via_ha"],
            report["ha_data_packets_direct"],
        ),
        _row(
            "packets lost in a handover between foreign links (median)",
            report["lost_packets_handover_via_ha"],
            report["lost_packets_handover_direct"],
        ),
        _row(
            f"packets lost, {report['anchor']} dead for {report['ha_killed_seconds']} s",
            "",
            report["lost_packets_ha_killed"],
        ),
        _row("spoofed packets passed", "", f"{report['spoofed_passed']} of {report['spoofed_sent']}"),
    ]
    return f"<table>{''.join(rows)}</table>"


def _moves(report: dict[str, Any], offload: bool) -> str:
    """Return the moves of one journey as an HTML table."""
    confirmed = ["then flows"] if offload else []
    rows = [_row("to", "acknowledged", *confirmed, "packets lost", tag="th")]
    for move in report["moves"]:
        if move["offload"] == offload:
            confirmed = [f"{move['activation_ms']:.0f} ms"] if offload else []
            rows.append(_row(move["to"], f"{move['acknowledged_ms']:.0f} ms", *confirmed, move["lost_packets"]))
    return f"<table><caption>{'with' if offload else 'without'} hoaflow</caption>{''.join(rows)}</table>"


def _checks(report: dict[str, Any]) -> str:
    rows = []
    for check in report["checks"]:
        kept = "kept" if check["kept"] else "broken"
        promise, figure = html.escape(check["promise"]), html.escape(check["figure"])
        rows.append(f'<tr><td class="{kept}">{kept}</td><td>{promise}</td><td class="number">{figure}</td></tr>')
    errors = "".join(f"<li>{html.escape(error)}</li>" for error in report["log_errors"])
    return f"<table>{''.join(rows)}</table>" + (f"<ul>{errors}</ul>" if errors else "")


def _timeline(seen: Observations, label: str, low: float, high: float, logarithmic: bool = False) -> tuple[Plot, float]:
    """Return a plot with the journey's phases and moves marked, and the time at its second 0."""
    start, end = min(seen.correspondent.sent.values()), max(seen.correspondent.sent.values())
    plot = Plot(end - start, label, low, high, logarithmic)
    for span, kind, text in (
        (Span(start, seen.starting.start), None, "without hoaflow"),
        (seen.starting, "starting", "hoaflow starts"),
        (Span(seen.starting.end, seen.outage.start), None, "with hoaflow"),
        (seen.outage, "outage", f"{seen.anchor} dead"),
    ):
        plot.phase(span.start - start, span.end - start, text, kind)
    for move in seen.moves:
        plot.mark(move.left - start, "home" if move.link == HOME else str(move.link), "move")
    plot.mark(seen.spoofed_at - start, "forged", "spoofed")
    return plot, start


def _round_trip_plot(seen: Observations) -> str:
    rtts = seen.correspondent.rtts
    values = [rtt.milliseconds for rtt in rtts]
    plot, start = _timeline(seen, "milliseconds", 0.9 * min(values), 1.1 * max(values), logarithmic=True)
    plot.points([(rtt.at - start, rtt.milliseconds) for rtt in rtts], "rtt")
    plot.strokes([at - start for at in seen.lost_at()], "lost")
    return plot.svg("Round-trip time and losses over the time of the run")


def _load_plot(seen: Observations) -> str:
    pairs = list(zip(seen.load, seen.load[1:], strict=False))
    rates = [(after.at, (after.packets - before.packets) / (after.at - before.at)) for before, after in pairs]
    plot, start = _timeline(seen, "data packets a second", 0, 1.1 * max(rate for _, rate in rates))
    plot.steps([(at - start, rate) for at, rate in rates], "load")
    return plot.svg(f"Data packets a second at the {seen.anchor} over the time of the run")
