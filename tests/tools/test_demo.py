# SPDX-License-Identifier: Apache-2.0
"""The demo's figures, promises, page and narration; what it does with signals. The demo itself is `make demo`."""

import fcntl
import io
import os
import re
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.processes import marked
from tools.demo import distributed_figures
from tools.demo.__main__ import main, table
from tools.demo.distributed import Handover, Passage, Seen
from tools.demo.figures import checks, figures
from tools.demo.journey import CONTROLS, Move, Observations
from tools.demo.monitor import LoadSample
from tools.demo.narration import Narrator
from tools.demo.page import write_page
from tools.demo.plot import Plot, decades, ticks
from tools.demo.sessions import CENTRAL, DISTRIBUTED, Session
from topologies.deployment import HOME, Backend
from topologies.path_trace import Path as TracedPath
from topologies.traffic import Records, Rtt, Span

RATE = 10  # packets a second each way, from second 1000 on
END = 1100


def observations() -> Observations:
    """100 s: without hoaflow until 1050, moves every 10 s, an outage from 1090 to 1095."""
    sent = {number: 1000 + number / RATE for number in range((END - 1000) * RATE)}
    rtts = [Rtt(at, 160.0 if at < 1050 else 2.0) for at in sent.values()]
    links: tuple[str | int, ...] = (1, 2, 1, HOME, 1, 2, 1, 2)
    lefts = (1005, 1015, 1025, 1035, 1055, 1065, 1075, 1085)
    moves = []
    for link, left in zip(links, lefts, strict=True):
        moves.append(Move(link, left > 1050, left, left + 0.1, left + 0.15 if left > 1050 else None))
    return Observations(
        starting=Span(1040, 1050),
        backends={f"r{number}": Backend("route", "this kernel lacks <something>") for number in (1, 2, 3)},
        moves=moves,
        load=[LoadSample(1000.0 + second, 20 * min(second, 50)) for second in range(END - 1000)],
        via_ha=Span(1028, 1033),
        direct=Span(1078, 1083),
        via_ha_load=100,
        direct_load=0,
        outage=Span(1090, 1095),
        spoofed_at=1057,
        spoofed_sent=100,
        spoofed_passed=0,
        controls_passed=CONTROLS,
        correspondent=Records(dict(sent), dict(sent), rtts),
        mobile=Records(dict(sent), dict(sent), []),
    )


def test_what_could_not_be_sent_is_lost_by_the_mobile_node_or_by_nobody() -> None:
    seen = observations()
    number = next(iter(seen.mobile.sent))
    del seen.correspondent.received[number]
    seen.mobile.unsent.add(number)
    assert len(seen.lost_at()) == 1
    seen.unsent_is_lost = False
    assert seen.lost_at() == []


def test_the_table_names_the_anchor() -> None:
    seen = observations()
    seen.anchor = "LMA"
    found = figures(seen)
    text = table(found, checks(found, []))
    assert re.search(r"^ +via LMA +with hoaflow$", text, re.MULTILINE)
    assert "packets lost while the LMA was dead" in text
    assert "home agent" not in text


def lose(records: Records, at: float, count: int) -> None:
    """Lose the other end's packets with these numbers, sent from AT on."""
    for number in range(count):
        del records.received[round((at - 1000) * RATE) + number]


def test_figures() -> None:
    seen = observations()
    lose(seen.mobile, 1015, 3)  # two handovers without hoaflow
    lose(seen.correspondent, 1025, 2)
    lose(seen.mobile, 1065, 4)  # three with it
    lose(seen.mobile, 1075, 1)
    lose(seen.mobile, 1005, 7)  # leaving home: not a handover between foreign links
    lose(seen.mobile, 1089.8, 2)  # under way when the home agent is killed
    lose(seen.correspondent, 1094, 1)
    lose(seen.correspondent, 1096, 5)  # after it was brought back
    found = figures(seen)
    assert found["rtt_via_ha_ms"] == 160
    assert found["rtt_direct_ms"] == 2
    assert found["ha_data_packets_via_ha"] == 200
    assert found["ha_data_packets_direct"] == 0
    assert found["lost_packets_handover_via_ha"] == 2.5
    assert found["lost_packets_handover_direct"] == 1
    assert found["lost_packets_ha_killed"] == 3
    assert found["activation_ms"] == [50, 50, 50, 50]
    assert [move["lost_packets"] for move in found["moves"]] == [7, 3, 2, 0, 0, 4, 1, 0]


def broken(found: dict[str, object], errors: list[str] | None = None) -> list[str]:
    """Return the promises that were broken."""
    return [check.promise for check in checks(found, errors or []) if not check.kept]


def test_each_promise_can_be_broken() -> None:
    good = figures(observations())
    assert broken(good) == []
    assert broken(good | {"ha_data_packets_direct": 0.5}) == ["no data packet at the home agent"]
    assert broken(good | {"spoofed_passed": 1}) == ["no spoofed packet passes"]
    assert broken(good | {"lost_packets_ha_killed": 1}) == ["no packet lost with the home agent dead"]
    assert broken(good | {"lost_packets_handover_direct": 1}) == ["no more losses in handovers than via the home agent"]
    assert broken(good | {"ha_data_packets_via_ha": 0}) == ["(without hoaflow all of them, 200 per 100 each way)"]
    assert broken(good | {"control_passed": 0}) == ["(packets with both sources right do)"]
    assert broken(good | {"rtt_direct_ms": 200}) == ["a shorter round trip"]
    assert broken(good, ["controller: Traceback"]) == ["no unexpected error in any log"]


class Page(HTMLParser):
    """Reads a page strictly: tags must be closed in order; notes what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not {"src", "href", "srcset", "xlink:href"} & {name for name, _ in attributes}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_and_fetches_nothing(tmp_path: Path) -> None:
    seen = observations()
    lose(seen.mobile, 1015, 3)
    found = figures(seen)
    errors = ["agent: ERROR <script>alert(1)</script>"]
    report = {
        **found,
        "linux": "6.1.0-17-amd64",
        "slowdown": 4.0,
        "core_delay_ms": 40.0,
        "packets_per_second": 10.0,
        "seconds": 100.0,
        "log_errors": errors,
        "checks": [check._asdict() for check in checks(found, errors)],
    }
    write_page(tmp_path / "report.html", seen, report)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.seen.count("svg") == 2
    assert "script" not in page.seen
    assert not re.search(r"https?://|url\(|@import", text)
    assert "r1, r2, r3: backend <strong>route</strong>, because: this kernel lacks &lt;something&gt;." in text
    assert "1 of 8 promises not kept." in text
    assert text.count('class="move"') == 2 * len(seen.moves)
    assert 'class="broken">broken</td><td>no unexpected error in any log' in text


def test_table_has_both_ways_side_by_side() -> None:
    found = figures(observations())
    text = table(found, checks(found, []))
    assert re.search(r"round-trip time \(median\) +160.0 ms +2.0 ms\n", text)
    assert "BROKEN" not in text
    assert "BROKEN" in table(found | {"spoofed_passed": 3}, checks(found | {"spoofed_passed": 3}, []))


def test_plot_stays_within_its_frame() -> None:
    plot = Plot(10, "x", 1, 100, logarithmic=True)
    plot.points([(-5, 0.1), (5, 10), (50, 1e6)], "dots")
    assert 'd="M72.0 276.0h0M510.0 160.0h0M948.0 44.0h0"' in plot.svg("title")


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 10, 5, [0, 2, 4, 6, 8, 10]),
        (0, 74.5, 10, [0, 10, 20, 30, 40, 50, 60, 70]),
        (0, 220, 5, [0, 50, 100, 150, 200]),
    ],
)
def test_ticks_are_round(low: float, high: float, count: int, expected: list[float]) -> None:
    assert ticks(low, high, count) == expected
    assert decades(0.9, 200) == [1, 10, 100]


class Terminal(io.StringIO):
    """A terminal that shows what was written last on its line."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """Return the lines as they are seen in the end."""
        return [line.rsplit("\r", 1)[-1].rstrip() for line in self.getvalue().split("\n")]


def test_status_line_is_replaced_on_a_terminal_and_rare_in_a_file() -> None:
    terminal, file = Terminal(), io.StringIO()
    for output in (terminal, file):
        narrator = Narrator(output)
        narrator.status("a long status line")
        narrator.status("short")
        narrator.say("event")
        narrator.status("last")
    assert [re.sub(r"^\[ *\S+ s\] ", "", line).strip() for line in terminal.screen()] == ["event", "last"]
    assert [line.split("] ")[1].strip() for line in file.getvalue().splitlines()] == ["a long status line", "event"]


def test_two_demos_do_not_write_to_one_directory(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / "report.json").write_text("mine")
    with open(tmp_path / "demo.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="2"):
            main(["--output", str(directory)])
    assert (directory / "report.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "0"], "--rate: expected a number above 0, got '0'"),
        (["--delay", "nan"], "--delay: expected a number above 0, got 'nan'"),
        (["--slowdown", "x"], "--slowdown: expected a number above 0, got 'x'"),
        (["--kernel", "vm", "--output", "/nowhere"], "expected a directory below .*/build, got /nowhere"),
        (["--kernel", "other"], "choose from 'host', 'vm'"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path), *arguments])
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("number", "awaited"),
    [(signal.SIGINT, "mobile_node"), (signal.SIGTERM, "probe.py"), (signal.SIGHUP, "ovs-vswitchd")],
)
def test_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals, awaited: str) -> None:
    before = os.listdir("/sys/class/net")
    command = [sys.executable, "-m", "tools.demo", "--output", str(tmp_path / "demo")]
    with marked(command, f"demo-{number}-{os.getpid()}", tmp_path / "log") as demo:
        demo.wait_until_running(awaited, seconds=60)
        demo.send(number, group=False)
        demo.assert_nothing_is_left()
        assert demo.process.returncode == 128 + number, demo.log.read_text()
    assert "everything was taken down" in demo.log.read_text()
    assert os.listdir("/sys/class/net") == before


def distributed(lost_by: str, released: bool = True) -> Seen:
    """Six sessions; while an anchor was dead, from 1040 to 1050, those with this anchor lost everything."""
    sessions = []
    for site in (1, 2, 3):
        for architecture in (CENTRAL, DISTRIBUTED):
            session = Session(site, architecture, traffic=None)  # type: ignore[arg-type]  # it has been stopped
            sent = {number: 1000 + number / RATE for number in range((END - 1000) * RATE)}
            lost = session.anchor == lost_by
            received = {number: at for number, at in sent.items() if not (lost and 1040 <= at < 1050)}
            end = Records(sent, received, [Rtt(at, 2.0) for at in received.values()])
            session.records = (end, end)
            sessions.append(session)
    routers = [9 if session.architecture == CENTRAL else session.site for session in sessions]
    paths = [TracedPath(("cn", *"r" * count, "mn"), ("mn", "cn")) for count in routers]
    handovers = [Handover(3, 2, Span(1010, 1015)), Handover(2, 3, Span(1015, 1020))]
    passage = Passage(handovers, Span(1020, 1030), {"ha": 0, "ha1": 40}, paths, Span(1040, 1050))
    return Seen(sessions, passage, passage, released)


def test_distributed_figures_count_what_each_architecture_loses() -> None:
    found = distributed_figures.figures(distributed(lost_by="ha1"))
    central, own = found["without"][CENTRAL], found["without"][DISTRIBUTED]
    assert (central["sessions_hit"], own["sessions_hit"]) == (0, 1)
    assert own["lost_packets_dead"] == 2 * 10 * RATE
    assert (central["links_here"], own["links_here"], own["links_elsewhere"]) == (11, 5, 3.5)
    assert found["without"]["load"] == {"ha": 0, "ha1": 40}
    assert central["lost_packets_leaving_anchor"] is None
    text = distributed_figures.table(found, distributed_figures.checks(found, []))
    assert re.search(r"^sessions hit while one anchor was dead, of 3 +0 +1 +0 +1$", text, re.MULTILINE)
    assert re.search(r"^    ha1 +40\.0 +40\.0$", text, re.MULTILINE)


def test_a_home_address_that_is_kept_for_nothing_breaks_a_promise() -> None:
    found = distributed_figures.figures(distributed(lost_by="nobody", released=False))
    broken = {check.promise for check in distributed_figures.checks(found, []) if not check.kept}
    assert "the home address of an ended session is let go" in broken
