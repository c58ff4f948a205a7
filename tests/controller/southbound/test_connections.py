# SPDX-License-Identifier: Apache-2.0
"""Strangers at the OpenFlow port who say nothing, in whatever numbers: they are sent away, and keep no switch out."""

import contextlib
import re
import resource
import socket
from pathlib import Path

import pytest

from tests.support.bench import Bench
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for
from topologies.waiting import patient

TIMEOUT = patient(40.0)  # seconds; the controller gives a handshake 10
HELLO = bytes.fromhex("04 00 0008 00000001")


def connect(ovs: Ovs) -> socket.socket:
    """Return a connection to the OpenFlow port, with nothing said yet."""
    with ovs.inside():
        return socket.create_connection(("127.0.0.1", OPENFLOW_PORT), timeout=TIMEOUT)


def until_closed(connection: socket.socket) -> None:
    """Read until the controller closes the connection. Raises TimeoutError when it does not."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(4096):
            pass


def connected(controller: Controller) -> list[str]:
    """Return the datapath ids of the switches that are connected."""
    return [router["dpid"] for router in controller.get("/v1/routers")["routers"] if router["connected"]]


@pytest.mark.parametrize("said", [b"", HELLO], ids=["nothing", "hello"])
def test_who_does_not_complete_the_handshake_is_sent_away(ovs: Ovs, controller: Controller, said: bytes) -> None:
    ovs.add_bridge("br0", 1, OPENFLOW_PORT)
    wait_for("the switch is connected", lambda: connected(controller) == [f"{1:016x}"])
    with connect(ovs) as stranger:
        stranger.sendall(said)
        until_closed(stranger)
    told = 'event=switch-refused peer=127.0.0.1 reason="no OpenFlow handshake within 10 s"'
    wait_for("it is told", lambda: told in controller.log)
    assert connected(controller) == [f"{1:016x}"]  # the deadline is the handshake's
    assert "router-disconnected" not in controller.log


def test_a_shortage_of_files_passes_and_is_logged_when_it_begins_and_ends(ovs: Ovs, controller: Controller) -> None:
    soft = 100
    resource.prlimit(controller.pid, resource.RLIMIT_NOFILE, (soft, soft))
    with contextlib.ExitStack() as strangers:
        for _ in range(2 * soft):
            strangers.enter_context(connect(ovs))
        wait_for("it is short of files", lambda: "event=accept-failed" in controller.log)
        # The handshakes of those who were let in are timed out, which makes room.
        over = wait_for("it accepts again", lambda: re.search(r"event=accepting-again failed=(\d+)", controller.log))
    assert int(over[1]) > controller.log.count("event=accept-failed")
    ovs.add_bridge("br0", 1, OPENFLOW_PORT)
    wait_for("the switch is connected", lambda: connected(controller) == [f"{1:016x}"])


@pytest.mark.expected_ovs_log(r"connection (closed|dropped|timed out)")
def test_of_switches_that_no_agent_knows_only_some_are_let_in(ovs: Ovs, tmp_path: Path) -> None:
    with Controller(ovs, tmp_path, "switches_without_agent = 1\nagent_lease = 300") as controller:
        bench = Bench(ovs, controller)
        bench.agent(1)
        for number in (1, 2, 3):
            ovs.add_bridge(f"br{number}", number, OPENFLOW_PORT)
            wait_for(
                f"switch {number} was connected",
                lambda: f"event=router-connected router={number:016x}" in controller.log,  # noqa: B023
            )
        wait_for("a stranger had to go", lambda: "event=switch-turned-away" in controller.log)
        assert len(connected(controller)) <= 2
        metrics = controller.text("/metrics").body
        assert re.search(r'^hoaflow_events_total{name="switch-turned-away"} [1-9]', metrics, re.MULTILINE)
        for number in (2, 3):
            bench.agent(number)
        wait_for("all are connected whose agents have reported", lambda: len(connected(controller)) == 3)
        assert f"event=router-disconnected router={1:016x}" not in controller.log
    controller.assert_log_clean()


def test_many_who_say_nothing_keep_no_switch_out(ovs: Ovs, controller: Controller) -> None:
    with contextlib.ExitStack() as strangers:
        first, *_ = [strangers.enter_context(connect(ovs)) for _ in range(300)]
        until_closed(first)
        assert 'reason="256 younger connections without a complete handshake"' in controller.log
        ovs.add_bridge("br0", 1, OPENFLOW_PORT)
        wait_for("the switch is connected", lambda: connected(controller) == [f"{1:016x}"])
