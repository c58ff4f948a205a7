# SPDX-License-Identifier: Apache-2.0
"""The tests' own tools: the check of logs, the Open vSwitch fixture, and pings."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.logs import assert_log_clean, errors_in
from tests.support.ovs import Ovs
from tests.support.ping import echo
from tests.support.skips import why_not_skipped
from topologies.waiting import patient

pytest_plugins = ["pytester"]

CONFTEST = "from tests.conftest import *"


@pytest.mark.parametrize(
    "line",
    [
        "2024-01-01 00:00:00,000 ERROR controller.app: no",
        "CRITICAL:root:no",
        "Traceback (most recent call last):",
        "2024-01-01T00:00:00.000Z|00042|bridge|ERR|another bridge",
        "2024-01-01T00:00:00.000Z|00042|util|EMER|assertion failed",
    ],
)
def test_an_error_in_a_log_is_found_unless_allowed(line: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"all well\n{line}\n")
    with pytest.raises(AssertionError, match="1 unexpected error"):
        assert_log_clean(log)
    assert_log_clean(log, allow=[r"no$|last\):$|another|assertion"])


def test_warnings_and_errors_counted_are_no_errors() -> None:
    assert errors_in("1|00042|rconn|WARN|br0: dropped\nINFO refused=0 errors=0 lastError=none") == []


def test_an_error_logged_in_a_test_fails_it(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest("from tests.conftest import logged_errors, pytest_configure")
    pytester.makepyfile(
        """
        import logging, pytest

        def test_unexpected():
            logging.getLogger("x").error("boom")

        @pytest.mark.expected_log("x: ERROR: boom")
        def test_expected():
            logging.getLogger("x").error("boom")
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2, errors=1)


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_what_cannot_run_fails_in_continuous_integration(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, status: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("CI", ci)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        test_module='import pytest\npytest.skip("no such host", allow_module_level=True)',
        test_fixture="""
        import pytest

        @pytest.fixture
        def engine():
            pytest.skip("no engine")

        def test_with_an_engine(engine):
            pass

        @pytest.mark.xfail(strict=True)
        def test_that_is_known_to_fail():
            assert False
        """,
    )
    result = pytester.runpytest_subprocess("--continue-on-collection-errors")
    assert (result.ret == 0) == (status == 0)
    assert result.parseoutcomes()["xfailed"] == 1, "a known failure is no skip"
    if status:
        result.stdout.fnmatch_lines_random(["*test_with_an_engine cannot be skipped*no engine*", "*no such host*"])
    else:
        result.assert_outcomes(skipped=2, xfailed=1)


@pytest.mark.parametrize(("machine", "may"), [("x86_64", False), ("aarch64", True)])
def test_what_needs_another_machine_may_be_skipped_in_continuous_integration(
    monkeypatch: pytest.MonkeyPatch, machine: str, may: bool
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert (why_not_skipped("tests/topologies/test_guest.py::test_x", "no emulator") is None) == may
    assert why_not_skipped("tests/hoaflow/cli/test_commands.py::test_x", "no emulator") is not None


def test_what_tests_start_has_default_signals_whatever_this_run_ignores(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `nohup`, or in a background that ignores Ctrl-C, which then is without effect on the run."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import os, signal, subprocess

        def test_child():
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
                os.kill(os.getpid(), number)
            status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
            ignored = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
            assert not ignored & 0b111, bin(ignored)
        """
    )
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        ["bash", "-c", "trap '' INT HUP QUIT; exec \"$@\"", "bash", *run],
        cwd=pytester.path,
        capture_output=True,
        text=True,
        timeout=patient(60),
    )
    assert done.returncode == 0, done.stdout


def test_open_vswitch_forwards_and_answers_a_trace(ovs: Ovs) -> None:
    ovs.add_bridge("br0", dpid=0x2A)
    ovs.add_port("br0", "p1", 1)
    ovs.add_port("br0", "p2", 2)
    ovs.ofctl("add-flow", "br0", "ipv6,ipv6_dst=2001:db8::1,actions=output:2")
    assert "dpid:000000000000002a" in ovs.ofctl("show", "br0")
    packet = "in_port=1,ipv6,ipv6_dst=2001:db8::{}"
    assert "Datapath actions: 3" in ovs.trace("br0", packet.format(1))
    assert "Datapath actions: drop" in ovs.trace("br0", packet.format(2))


def test_two_open_vswitches_do_not_meet(ovs: Ovs, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ovs.add_bridge("br0", dpid=1)
    with Ovs(tmp_path / "other") as other:
        other.add_bridge("br0", dpid=2)
        assert "dpid:0000000000000001" in ovs.ofctl("show", "br0")
        assert "dpid:0000000000000002" in other.ofctl("show", "br0")
    other.assert_log_clean()


def test_sockets_opened_inside_belong_to_the_namespace(ovs: Ovs) -> None:
    with ovs.inside(), socket.create_server(("127.0.0.1", 6653)):
        pass
    with ovs.inside():
        server = socket.create_server(("127.0.0.1", 6653))
    with server:
        assert "127.0.0.1:6653" in ovs.run("ss", "-ltn")
        with ovs.inside(), socket.create_connection(("127.0.0.1", 6653), timeout=5):
            pass


def test_stopping_leaves_nothing_behind(tmp_path: Path) -> None:
    with Ovs(tmp_path) as ovs:
        ovs.add_bridge("br0", dpid=1)
        left = subprocess.Popen(ovs.command("sleep", "600"))
        pid = int((tmp_path / "ovs-vswitchd.pid").read_text())
    assert left.wait(timeout=patient(60)) < 0
    assert not Path(f"/run/netns/{ovs.netns}").exists()
    status = Path(f"/proc/{pid}/status")  # init may take its time to collect it
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_an_answer_that_is_late_was_not_lost_but_one_that_never_comes() -> None:
    answer_the_second_never_and_the_last_late = (
        "import socket, subprocess, sys, time\n"
        "subprocess.run(['ip', 'link', 'set', 'dev', 'lo', 'up'], check=True)\n"
        "subprocess.run(['sysctl', '-qw', 'net.ipv6.icmp.echo_ignore_all=1'], check=True)\n"
        "responder = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)\n"
        "echo = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)\n"
        "answers = 0\n"
        "while answers < 3:\n"
        "    packet, source = responder.recvfrom(2048)\n"
        "    number = int.from_bytes(packet[6:8], 'big')\n"
        "    if packet[0] != 128: continue\n"
        "    if number == 1: continue\n"
        "    if number == 3: time.sleep(0.3)\n"
        "    responder.sendto(bytes([129, 0, 0, 0]) + packet[4:], source)\n"
        "    answers += 1\n"
        "print(echo.communicate()[0])\n"
    )
    command = ["unshare", "--net", sys.executable, "-c", answer_the_second_never_and_the_last_late, *echo(4, "::1")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60), check=True)
    assert int(done.stdout) == 3
