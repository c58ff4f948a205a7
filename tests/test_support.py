# SPDX-License-Identifier: Apache-2.0
"""The tests' own tools: the check of logs, and the Open vSwitch fixture."""

import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.logs import assert_log_clean, errors_in
from tests.support.ovs import Ovs

pytest_plugins = ["pytester"]


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
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
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
    assert left.wait(timeout=5) < 0
    assert not Path(f"/run/netns/{ovs.netns}").exists()
    status = Path(f"/proc/{pid}/status")  # init may take its time to collect it
    assert not status.exists() or "State:\tZ" in status.read_text()
