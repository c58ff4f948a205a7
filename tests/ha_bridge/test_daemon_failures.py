# SPDX-License-Identifier: Apache-2.0
"""The bridge's process while its controller or its home agent fails: one scenario per failure."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.bridge import HOA, HOME_AGENT, LINK_1, LINK_2, OTHER, Bridge, Terminal, bridge, entry
from tests.support.bridge_controller import Controller
from tests.support.bridge_process import HomeAgent, arguments
from topologies.waiting import patient


def _refuse_connections(controller: Controller) -> Callable[[], None]:
    controller.stop()
    return controller.start


def _restart(controller: Controller) -> Callable[[], None]:
    controller.stop()
    controller.forget()
    return controller.start


def _forget(controller: Controller) -> Callable[[], None]:
    controller.forget()
    return lambda: None


def _answer(status: int) -> Callable[[Controller], Callable[[], None]]:
    def start(controller: Controller) -> Callable[[], None]:
        controller.fail = lambda method, path: (status, {"title": "on purpose", "status": status})
        return lambda: setattr(controller, "fail", lambda method, path: None)

    return start


def _say_nothing(controller: Controller) -> Callable[[], None]:
    release = threading.Event()
    controller.fail = lambda method, path: (release.wait(30), (500, {}))[1]

    def stop() -> None:
        controller.fail = lambda method, path: None
        release.set()

    return stop


FAILURES = {
    "connections refused": (_refuse_connections, "controller-unreachable"),
    "restarted": (_restart, "controller-unreachable"),
    "lost its memory": (_forget, "snapshot-sent"),
    "404": (_answer(404), "announcement-refused"),
    "500": (_answer(500), "announcement-refused"),
    "503": (_answer(503), "announcement-refused"),
    "answers nothing": (_say_nothing, "controller-unreachable"),
}


@pytest.mark.parametrize(("fail", "met"), FAILURES.values(), ids=FAILURES)
def test_nothing_still_true_is_lost(
    controller: Controller,
    home_agent: HomeAgent,
    running: Bridge,
    fail: Callable[[Controller], Callable[[], None]],
    met: str,
) -> None:
    before = len(running.events(met))
    mend = fail(controller)
    home_agent.bindings = {OTHER: LINK_1}
    home_agent.move(HOA, LINK_2)
    running.wait(met, before + 1)
    home_agent.bindings.pop(OTHER)
    home_agent.bindings["2001:db8:99::300"] = LINK_2
    mend()
    controller.wait(lambda: controller.care_of() == {HOA: LINK_2, "2001:db8:99::300": LINK_2})
    running.wait("snapshot-sent", 2)


def test_stale_sequence_is_settled_by_a_snapshot(
    controller: Controller, home_agent: HomeAgent, running: Bridge
) -> None:
    home_agent.sequence = 7  # the mobile node went home and away again between two looks
    home_agent.move(HOA, LINK_2)
    controller.wait(lambda: controller.care_of() == {HOA: LINK_2})
    running.wait("binding-stale")
    assert controller.count("POST") == 1


def test_refused_binding_is_logged_once_and_not_repeated(
    controller: Controller, home_agent: HomeAgent, running: Bridge
) -> None:
    controller.forbidden.add(LINK_2)
    home_agent.move(HOA, LINK_2)
    line = running.wait("binding-refused")
    assert "care_of_address: forbidden" in line
    controller.wait(lambda: HOA not in controller.bindings)
    asked = home_agent.terminal.asked
    controller.wait(lambda: home_agent.terminal.asked > asked + 10)
    assert controller.count("POST") == 2
    assert len(running.events("binding-refused")) == 1
    home_agent.move(HOA, LINK_1)
    controller.wait(lambda: controller.care_of() == {HOA: LINK_1})


def _asked(terminal: Terminal, times: int) -> bool:
    return terminal.asked >= times


def test_a_cut_answer_withdraws_nothing(controller: Controller, home_agent: HomeAgent, running: Bridge) -> None:
    home_agent.bindings[OTHER] = LINK_2
    controller.wait(lambda: len(controller.bindings) == 2)
    for cut in (0, 200, len(home_agent.text()) // 2, len(home_agent.text())):
        home_agent.terminal.cut = cut
        enough = home_agent.terminal.asked + 2
        controller.wait(partial(_asked, home_agent.terminal, enough))
    assert controller.care_of() == {HOA: LINK_1, OTHER: LINK_2}
    running.wait("source-unreadable")
    home_agent.terminal.cut = None
    running.wait("source-readable")


def test_hung_terminal_ends_the_lease_then_takes_it_up_again(
    controller: Controller, home_agent: HomeAgent, running: Bridge
) -> None:
    home_agent.terminal.hang = True
    running.wait("lease-suspended")
    home_agent.move(HOA, LINK_2)
    # An attempt takes as long as four renewals; during the first one the last renewal may still be under way.
    attempts = home_agent.terminal.connections
    controller.wait(lambda: home_agent.terminal.connections > attempts + 1)
    renewals = controller.count("PUT", HOME_AGENT)
    controller.wait(lambda: home_agent.terminal.connections > attempts + 2)
    assert controller.count("PUT", HOME_AGENT) == renewals
    assert controller.care_of() == {HOA: LINK_1}
    assert controller.home_agents[HOME_AGENT]["status"] == "up"
    home_agent.terminal.hang = False
    running.wait("lease-resumed")
    controller.wait(lambda: controller.care_of() == {HOA: LINK_2})


def test_waits_for_an_operators_session_to_end(controller: Controller, home_agent: HomeAgent) -> None:
    with socket.create_connection(("127.0.0.1", home_agent.terminal.port)) as operator:
        assert operator.recv(100) == b"mip6d> "
        with bridge(*arguments(controller, home_agent.terminal.port)) as process:
            process.wait("source-unreadable")
            assert not controller.requests, "nothing is known yet, so nothing is said"
            operator.sendall(b"quit\n")
            controller.wait(lambda: controller.care_of() == {HOA: LINK_1})


def test_first_connection_after_start(controller: Controller, home_agent: HomeAgent) -> None:
    home_agent.terminal.first_is_unknown = True
    with bridge(*arguments(controller, home_agent.terminal.port)):
        controller.wait(lambda: controller.care_of() == {HOA: LINK_1})


def _process(port: int, cache: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.support.bridge", str(port), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_home_agent_killed_and_started_again(controller: Controller, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text(entry(HOA, LINK_1))
    agent = _process(0, cache)
    try:
        assert agent.stdout is not None
        port = int(agent.stdout.readline())
        with bridge(*arguments(controller, port)) as process:
            controller.wait(lambda: controller.care_of() == {HOA: LINK_1})
            agent.send_signal(signal.SIGKILL)
            agent.wait(patient(30))
            controller.wait(lambda: controller.home_agents[HOME_AGENT]["status"] == "ha-down")
            others = controller.count("POST") + controller.count("PUT", "/bindings")
            renewals = controller.count("PUT", HOME_AGENT)
            controller.wait(lambda: controller.count("PUT", HOME_AGENT) >= renewals + 4)
            assert controller.count("POST") + controller.count("PUT", "/bindings") == others
            assert controller.care_of() == {HOA: LINK_1}, "frozen"
            cache.write_text(entry(OTHER, LINK_2))
            agent = _process(port, cache)
            controller.wait(lambda: controller.care_of() == {HOA: LINK_1, OTHER: LINK_2})
            assert controller.home_agents[HOME_AGENT]["status"] == "up"
            assert [len(process.events(name)) for name in ("ha-down", "up")] == [1, 2]
    finally:
        agent.kill()
        agent.wait(patient(30))
