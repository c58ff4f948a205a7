# SPDX-License-Identifier: Apache-2.0
"""The bridge's process between a terminal that behaves as UMIP's and a controller: one scenario per failure."""

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import requests

from ha_bridge.__main__ import main
from tests.support.bridge import (
    DATA,
    HOME_AGENT,
    HOME_PREFIX,
    Bridge,
    Controller,
    Terminal,
    bridge,
    enter_namespace,
    entry,
)
from tests.support.scrape import scrape
from tests.support.waiting import wait_for

HOA, OTHER = "2001:db8:99::100", "2001:db8:99::200"
LINK_1, LINK_2 = "2001:db8:2::2", "2001:db8:3::2"
NETNS = "hab-daemon"


class HomeAgent:
    """A binding cache that can be changed, shown by a terminal."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        self.bindings: dict[str, str] = {HOA: LINK_1}
        self.sequence = 100
        self.left = 60
        self.terminal = Terminal(self.text, listener=listener)

    def text(self) -> str:
        return "".join(
            entry(home, care_of, left=self.left, sequence=self.sequence) for home, care_of in self.bindings.items()
        )

    def move(self, home: str, care_of: str) -> None:
        self.sequence += 1
        self.bindings[home] = care_of


@pytest.fixture
def controller() -> Iterator[Controller]:
    running = Controller()
    yield running
    running.stop()


@pytest.fixture
def home_agent() -> Iterator[HomeAgent]:
    running = HomeAgent()
    yield running
    running.terminal.close()


def arguments(controller: Controller, terminal_port: int, *more: str) -> list[str]:
    return [
        *("--controller", controller.url, "--home-prefix", HOME_PREFIX, "--console", f"127.0.0.1:{terminal_port}"),
        *("--no-netlink", "--poll", "0.1", "--lease", "2", "--renew", "0.5", *more),
    ]


@pytest.fixture
def running(controller: Controller, home_agent: HomeAgent) -> Iterator[Bridge]:
    """Provide a bridge that has told the controller of the one binding there is."""
    with bridge(*arguments(controller, home_agent.terminal.port)) as process:
        process.wait("snapshot-sent")
        assert controller.care_of() == {HOA: LINK_1}
        yield process


def probe(address: str, path: str) -> tuple[int, str]:
    answer = requests.get(f"http://{address}{path}", timeout=10)
    return answer.status_code, answer.text


def test_metrics_tell_how_it_stands_and_what_it_has_done(controller: Controller, home_agent: HomeAgent) -> None:
    options = arguments(controller, home_agent.terminal.port, "--metrics", "127.0.0.1:0")
    with bridge(*options) as process:
        address = re.search(r"metrics=(\S+)", process.wait("metrics-listening"))
        assert address
        url = f"http://{address[1]}/metrics"
        process.wait("snapshot-sent")
        assert probe(address[1], "/healthz") == probe(address[1], "/readyz") == (200, "ok\n")
        home_agent.move(HOA, LINK_2)
        process.wait("binding-sent")
        now = scrape(url)
        assert now("hoaflow_bridge_home_agent_up") == now("hoaflow_bridge_console_up") == 1
        assert now.by("at", "hoaflow_bridge_bindings") == {"home_agent": 1, "controller": 1}
        assert now("hoaflow_bridge_unsent_bindings") == 0
        assert now("hoaflow_bridge_reports_total", result="accepted") == 1
        assert now("hoaflow_bridge_requests_total", request="snapshot", result="ok") == 1
        assert now("hoaflow_bridge_requests_total", request="lease", result="ok") >= 1
        assert "2001:db8" not in now.text
        assert next(body for _, path, body in controller.requests if path == "/v1/bindings")["detected_ago"] < 20
        controller.stop()
        home_agent.move(HOA, LINK_1)

        def failing() -> bool:
            then = scrape(url)
            failed = then.by("result", "hoaflow_bridge_requests_total").keys()
            return "unreachable" in failed and then("hoaflow_bridge_unsent_bindings") == 1

        wait_for("what cannot be sent is told", failing)
        assert probe(address[1], "/healthz") == (200, "ok\n")
        assert probe(address[1], "/readyz") == (503, "the controller has not confirmed the lease\n")
        home_agent.terminal.close()
        wait_for("the home agent's death is told", lambda: scrape(url)("hoaflow_bridge_home_agent_up") == 0)


def test_start_handover_and_removal(controller: Controller, home_agent: HomeAgent, running: Bridge) -> None:
    first = [path for _, path, _ in controller.requests][:2]
    assert first == [f"/v1/home-agents/{HOME_AGENT}", f"/v1/home-agents/{HOME_AGENT}/bindings"]
    assert controller.home_agents[HOME_AGENT] == {"home_prefixes": [HOME_PREFIX], "lease": 2, "status": "up"}
    home_agent.move(HOA, LINK_2)
    controller.wait(lambda: controller.care_of() == {HOA: LINK_2})
    assert controller.bindings[HOA]["sequence"] == 101
    assert controller.bindings[HOA]["lifetime"] in (59, 60)
    line = running.wait("binding-sent")
    assert re.fullmatch(
        rf"time=\S+Z level=info event=binding-sent home_address={HOA} care_of_address={LINK_2} sequence=101 status=200"
        r" request_ms=[\d.]+",
        line,
    ), line
    home_agent.bindings.clear()
    controller.wait(lambda: not controller.bindings)
    running.wait("binding-removed")


def test_sigterm_ends_it_and_withdraws_nothing(controller: Controller, home_agent: HomeAgent, running: Bridge) -> None:
    assert running.terminate() == 0
    assert controller.care_of() == {HOA: LINK_1}
    assert controller.home_agents[HOME_AGENT]["status"] == "up"
    assert running.lines[-1].endswith(" event=stopped bindings=1")


def test_many_changes_at_once_go_in_one_request(controller: Controller, home_agent: HomeAgent, running: Bridge) -> None:
    homes = [f"2001:db8:99::{n:x}" for n in range(0x200, 0x400)]
    home_agent.bindings = dict.fromkeys(homes, LINK_2)
    controller.wait(lambda: controller.care_of() == dict.fromkeys(homes, LINK_2))
    assert controller.count("POST") == 1


def test_lease_is_renewed_while_a_snapshot_is_slow(controller: Controller, home_agent: HomeAgent) -> None:
    release = threading.Event()

    def slow(method: str, path: str) -> None:
        if path.endswith("/bindings") and method == "PUT":
            release.wait(20)

    controller.fail = slow
    with bridge(*arguments(controller, home_agent.terminal.port)):
        controller.wait(lambda: controller.count("PUT", "/bindings") == 1)
        renewals = controller.count("PUT", HOME_AGENT)
        controller.wait(lambda: controller.count("PUT", HOME_AGENT) >= renewals + 6)
        assert controller.count("PUT", "/bindings") == 1
        release.set()
        controller.wait(lambda: controller.care_of() == {HOA: LINK_1})


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
            agent.wait(10)
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
        agent.wait(10)


@pytest.mark.parametrize("name", ["mipv6/vt-handover-polls.txt", "mipv6/vt-expiry-polls.txt"])
def test_recorded_run_through_a_terminal(controller: Controller, name: str) -> None:
    recorded = re.split(rb"--- [0-9.]+\n", (DATA / name).read_bytes())[1:]
    texts = [re.sub(rb"\x1b\[[0-9;]*m|mip6d> |\0", b"", answer).decode() for answer in recorded]
    shown = iter(texts)
    terminal = Terminal(lambda: next(shown, texts[-1]))
    try:
        with bridge(*arguments(controller, terminal.port)):
            controller.wait(lambda: terminal.asked > len(texts))
            if "handover" in name:
                controller.wait(lambda: controller.care_of() == {HOA: "2001:db8:3:0:945f:28ff:fe6e:2f82"})
                assert controller.bindings[HOA]["sequence"] >= 52725
            else:
                controller.wait(lambda: not controller.bindings)
    finally:
        terminal.close()
    told = [body for method, path, body in controller.requests if path.endswith("bindings")]
    assert "2001:db8:2:0:f4a9:63ff:fe44:404e" in str(told[0])


def _listener_in_namespace() -> socket.socket:
    made: list[socket.socket] = []

    def make() -> None:
        enter_namespace(NETNS)
        made.append(socket.create_server(("127.0.0.1", 0)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join(10)
    return made[0]


def _ip(*words: str) -> None:
    subprocess.run(["ip", "-n", NETNS, *words], check=True, timeout=10)


@pytest.fixture
def namespace() -> Iterator[None]:
    """Make a home agent's network namespace."""
    subprocess.run(["ip", "netns", "del", NETNS], check=False, capture_output=True, timeout=10)
    subprocess.run(["ip", "netns", "add", NETNS], check=True, timeout=10)
    try:
        _ip("link", "add", "u0", "type", "veth", "peer", "name", "u1")
        for device in ("lo", "u0", "u1"):
            _ip("link", "set", device, "up")
        _ip("-6", "addr", "add", "2001:db8:10::2/64", "dev", "u0", "nodad")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=False, timeout=10)


def _register(home: str, care_of: str) -> None:
    encap = ("encap", "seg6", "mode", "encap.red", "segs", care_of, "via", "2001:db8:10::1", "dev", "u0")
    _ip("-6", "route", "replace", f"{home}/128", *encap, "proto", "16")


def _inside(controller: Controller, *more: str) -> list[str]:
    return ["--controller", controller.url, "--home-prefix", HOME_PREFIX, *more]


@pytest.fixture
def near_controller(namespace: None) -> Iterator[Controller]:
    """Provide a controller in the home agent's namespace."""
    running = Controller(_listener_in_namespace())
    yield running
    running.stop()


ENTER = ("ip", "netns", "exec", NETNS)


def test_event_in_the_kernel_triggers_a_look_at_the_terminal(near_controller: Controller) -> None:
    agent = HomeAgent(_listener_in_namespace())
    try:
        options = _inside(near_controller, "--console", f"127.0.0.1:{agent.terminal.port}", "--poll", "3600")
        with bridge(*options, "--log-level", "debug", command=ENTER) as process:
            near_controller.wait(lambda: near_controller.care_of() == {HOA: LINK_1})
            agent.move(HOA, LINK_2)
            _register(HOA, LINK_2)
            near_controller.wait(lambda: near_controller.care_of() == {HOA: LINK_2})
            process.wait("kernel-change")
    finally:
        agent.terminal.close()


def test_payload_under_ipsec_is_withheld(near_controller: Controller) -> None:
    agent = HomeAgent(_listener_in_namespace())
    agent.bindings[OTHER] = LINK_1
    try:
        tunnel = ("tmpl", "src", HOME_AGENT, "dst", LINK_1, "proto", "esp", "mode", "tunnel")
        _ip("xfrm", "policy", "add", "src", "::/0", "dst", f"{HOA}/128", "dir", "out", *tunnel)
        options = _inside(near_controller, "--console", f"127.0.0.1:{agent.terminal.port}")
        with bridge(*options, command=ENTER) as process:
            near_controller.wait(lambda: near_controller.care_of() == {OTHER: LINK_1})
            assert HOA in process.wait("binding-withheld")
            _ip("xfrm", "policy", "add", "src", "::/0", "dst", f"{OTHER}/128", "dir", "out", *tunnel)
            near_controller.wait(lambda: near_controller.care_of() == {})
            assert near_controller.withheld().keys() == {HOA, OTHER}
            assert near_controller.withheld()[HOA].startswith("IPsec")
    finally:
        agent.terminal.close()


def test_hung_terminal_and_an_event_leaves_what_the_kernel_confirms(near_controller: Controller) -> None:
    agent = HomeAgent(_listener_in_namespace())
    agent.bindings[OTHER] = LINK_1
    _register(HOA, LINK_1)
    _register(OTHER, LINK_1)
    try:
        options = _inside(near_controller, "--console", f"127.0.0.1:{agent.terminal.port}", "--poll", "1")
        with bridge(*options, command=ENTER) as process:
            near_controller.wait(lambda: len(near_controller.bindings) == 2)
            agent.terminal.hang = True
            process.wait("source-unreadable")
            _register(HOA, LINK_2)
            near_controller.wait(lambda: near_controller.care_of() == {OTHER: LINK_1})
            assert HOA in process.wait("binding-doubted")
            assert near_controller.withheld()[HOA].startswith("in doubt")
    finally:
        agent.terminal.close()


def test_comes_from_the_source_address_asked_for(controller: Controller, home_agent: HomeAgent) -> None:
    with bridge(*arguments(controller, home_agent.terminal.port, "--source-address", "127.0.0.2")):
        controller.wait(lambda: controller.care_of() == {HOA: LINK_1})
    assert controller.clients == {"127.0.0.2"}


def test_kernel_alone(near_controller: Controller) -> None:
    _register(HOA, LINK_1)
    with bridge(*_inside(near_controller, "--no-console"), command=ENTER) as process:
        near_controller.wait(lambda: near_controller.care_of() == {HOA: LINK_1})
        assert "lifetime" not in near_controller.bindings[HOA]
        assert "sequence" not in near_controller.bindings[HOA]
        _register(HOA, LINK_2)
        near_controller.wait(lambda: near_controller.care_of() == {HOA: LINK_2})
        _ip("-6", "route", "del", f"{HOA}/128", "proto", "16")
        near_controller.wait(lambda: not near_controller.bindings)
        assert process.terminate() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--home-agent", "192.0.2.1"], "expected an IPv6 address"),
        (["--home-prefix", "2001:db8:99::1/64"], "which has bits set"),
        (["--console", "7777"], "expected HOST:PORT"),
        (["--controller", "localhost:8080"], "expected http"),
        (["--lease", "0"], "whole seconds"),
        (["--renew", "9"], "at most half"),
        (["--no-netlink", "--poll", "30"], "at most --lease"),
        (["--no-console", "--no-netlink"], "nothing to follow"),
        (["--poll", "nan"], "expected seconds"),
    ],
)
def test_wrong_arguments_are_refused(wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    good = ["--controller", "http://127.0.0.1:1", "--home-agent", HOME_AGENT, "--home-prefix", HOME_PREFIX]
    with pytest.raises(SystemExit) as refused:
        main(good + wrong)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err
