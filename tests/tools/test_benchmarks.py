# SPDX-License-Identifier: Apache-2.0
"""`make bench` itself, with very little to do: it has to measure everything, and to leave nothing behind."""

import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.waiting import wait_for
from tools.benchmarks.baselines import OfctlRest
from tools.benchmarks.figures import Figure, paired_ratio, percentile
from tools.benchmarks.generator import LOST, Answers, Load, Pace
from tools.benchmarks.report import document, machine, table
from tools.benchmarks.ryu import CHECKOUT
from tools.benchmarks.switch import Dump
from topologies.waiting import patient

FIGURES = {
    "bulk_ratio",
    "storm",
    "overload",
    "handover_cost",
    "one_of_many",
    "gateway_gone",
    "switch_restart",
    "memory_soak",
    "bytes_per_binding",
    "activation_p50_ms",
    "activation_p99_ms",
    "growth",
    "activation_under_bulk_p99_ms",
    "restart_seconds",
    "refresh",
    "single_rate_ratio",
    "routers",
}
TINY = ("--bindings", "200", "--repetitions", "1", "--seconds", "0.2", "--period", "1", "--soak", "1000")


def bench(output: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tools.benchmarks", *TINY, "--output", str(output), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=pipe, stderr=pipe, text=True)


def namespaces_of(process: subprocess.Popen[str]) -> list[Path]:
    return list(Path("/run/netns").glob(f"hf-ovs-{process.pid}-*"))


def test_everything_is_measured_in_one_run(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    with bench(output) as process:
        printed, errors = process.communicate(timeout=900)
    assert process.returncode in (0, 3), printed + errors  # 3: a goal was missed, as so small ones may be
    written = json.loads(output.read_text())
    assert {figure["name"] for figure in written["figures"]} == FIGURES
    assert all(figure["samples"] and figure["met"] is not None for figure in written["figures"])
    assert all(name in printed for name in FIGURES)
    assert (process.returncode == 3) == any(figure["met"] is False for figure in written["figures"])
    assert written["machine"]["cores"] > 0
    restart = next(figure for figure in written["figures"] if figure["name"] == "restart_seconds")
    assert restart["samples"]["changed_flows"] == [0]
    assert not namespaces_of(process)


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with bench(tmp_path / "bench.json", "--only", "restart") as process:
        wait_for("it has begun", lambda: namespaces_of(process))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGINT, errors
    assert "cleaned up" in errors
    assert not namespaces_of(process)


def test_the_generator_goes_on_when_the_server_ends_a_connection_that_is_idle() -> None:
    request, answer = "GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as others:
        load = Load(server.getsockname()[1], [request] * 3, rate=4.0)
        running = others.submit(Pace(load, 4.0).run)
        first, second = server.accept()[0], server.accept()[0]  # the first is unanswered when the second is due
        second.settimeout(10)
        with second:
            with first:
                first.recv(100)
                first.sendall(answer)
            for _ in range(2):
                second.recv(100)
                second.sendall(answer)
            assert running.result(timeout=patient(30)).statuses == [200, 200, 200]


def test_percentiles_are_measured_values_and_ratios_are_of_pairs() -> None:
    assert percentile([5.0, 1.0, 4.0, 2.0, 3.0], 50) == 3.0
    assert percentile([float(value) for value in range(1, 101)], 99) == 99.0
    assert percentile([7.0], 99) == 7.0
    assert paired_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0


def test_a_missed_goal_is_shown_with_its_reason() -> None:
    shown = table([Figure("fast", "1", goal="≤ 2", met=True), Figure("slow", "9", goal="≤ 2", met=False, reason="why")])
    assert "slow misses its goal. why" in shown
    assert "fast misses" not in shown


def test_the_table_is_put_between_the_markers_of_a_document(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text("before\n<!-- table: how -->\nold\n<!-- end of table -->\nafter\n")
    for value in ("first", "second"):
        document(path, machine(), 100, [Figure("fast", value, goal="≤ 2", met=True, reason="why")])
    text = path.read_text()
    assert text.startswith("before\n<!-- table: how -->\nMeasured on 20")
    assert "| fast | second |  | ≤ 2 | yes |\n" in text
    assert "first" not in text
    assert text.endswith("is in [performance.json](performance.json).\n<!-- end of table -->\nafter\n")
    assert json.loads((tmp_path / "performance.json").read_text())["notes"] == {"fast": "why"}
    path.write_text("nothing\n")
    with pytest.raises(ValueError, match="end of table"):
        document(path, machine(), 100, [])


def test_flows_sent_again_or_gone_are_changes_and_gates_are_none() -> None:
    before = Dump({"cookie=0x1,table=1,kept": 10.0, "cookie=0x1,table=1,gone": 10.0, "cookie=0x2,table=1,again": 10.0})
    after = Dump(
        {
            "cookie=0x1,table=1,kept": 10.0,
            "cookie=0x2,table=1,again": 30.0,
            "cookie=0x3,table=0,hard_timeout=9, priority=200,ipv6 actions=goto_table:1": 30.0,
        }
    )
    assert sorted(after.changed_since(before, 20.0)) == ["cookie=0x1,table=1,gone", "cookie=0x2,table=1,again"]


def test_answers_are_cut_at_their_content_length() -> None:
    answers = Answers()
    assert answers.feed(b"HTTP/1.1 201 Created\r\nContent-") is None
    assert answers.feed(b"Length: 3\r\n\r\n{}") is None
    assert answers.feed(b"\n") == 201
    assert answers.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") == 200
    with pytest.raises(ConnectionError, match="closed the connection"):
        answers.feed(b"")


def test_a_connection_that_ends_without_an_answer_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as others:
        load = Load(server.getsockname()[1], ["GET / HTTP/1.1\r\n\r\n"], rate=4.0)
        running = others.submit(Pace(load, 4.0).run)
        with server.accept()[0] as connection:
            connection.recv(100)
        assert running.result(timeout=patient(30)).statuses == [LOST]


def test_ofctl_rest_is_given_the_very_flow_that_was_dumped() -> None:
    flow = (
        "cookie=0x686f61660000000a,table=1,hard_timeout=3600, send_flow_rem priority=100,ipv6,ipv6_dst=2001:db8::1"
        " actions=dec_ttl,set_field:2001:db8:99::1->tun_ipv6_src,output:1"
    )
    assert OfctlRest.body(flow) == {
        "dpid": 0x100,
        "cookie": 0x686F61660000000A,
        "table_id": 1,
        "hard_timeout": 3600,
        "priority": 100,
        "flags": 1,
        "match": {"eth_type": 0x86DD, "ipv6_dst": "2001:db8::1"},
        "actions": [
            {"type": "DEC_NW_TTL"},
            {"type": "SET_FIELD", "field": "tun_ipv6_src", "value": "2001:db8:99::1"},
            {"type": "OUTPUT", "port": 1},
        ],
    }
