# SPDX-License-Identifier: Apache-2.0
"""The bridge's process between a terminal that behaves as UMIP's and a controller: what it does and says."""

import re
import threading

import pytest
import requests

from ha_bridge.__main__ import main
from tests.support.bridge import DATA, HOA, HOME_AGENT, HOME_PREFIX, LINK_1, LINK_2, Bridge, Terminal, bridge
from tests.support.bridge_controller import Controller
from tests.support.bridge_process import HomeAgent, arguments
from tests.support.scrape import scrape
from tests.support.waiting import wait_for
from topologies.waiting import patient


def probe(address: str, path: str) -> tuple[int, str]:
    answer = requests.get(f"http://{address}{path}", timeout=patient(60))
    return answer.status_code, answer.text


def test_metrics_tell_how_it_stands_and_what_it_has_done(controller: Controller, home_agent: HomeAgent) -> None:
    options = arguments(controller, home_agent.terminal.port, "--metrics", "127.0.0.1:0")
    with bridge(*options) as process:
        address = re.search(r"metrics=(\S+)", process.wait("metrics-listening"))
        assert address
        metrics = f"http://{address[1]}/metrics"
        process.wait("snapshot-sent")
        assert probe(address[1], "/healthz") == probe(address[1], "/readyz") == (200, "ok\n")
        home_agent.move(HOA, LINK_2)
        process.wait("binding-sent")
        now = scrape(metrics)
        assert now("hoaflow_bridge_home_agent_up") == now("hoaflow_bridge_console_up") == 1
        url = controller.url
        assert now("hoaflow_bridge_bindings") == now("hoaflow_bridge_lease_confirmed", controller=url) == 1
        assert now("hoaflow_bridge_accepted_bindings", controller=url) == 1
        assert now("hoaflow_bridge_unsent_bindings", controller=url) == 0
        assert now("hoaflow_bridge_reports_total", controller=url, result="accepted") == 1
        assert now("hoaflow_bridge_requests_total", controller=url, request="snapshot", result="ok") == 1
        assert now("hoaflow_bridge_requests_total", controller=url, request="lease", result="ok") >= 1
        assert "2001:db8" not in now.text
        (report,) = next(body for _, path, body in controller.requests if path == "/v1/bindings")["bindings"]
        assert report["detected_ago"] < 20
        controller.stop()
        home_agent.move(HOA, LINK_1)

        def failing() -> bool:
            then = scrape(metrics)
            failed = then.by("result", "hoaflow_bridge_requests_total").keys()
            return "unreachable" in failed and then("hoaflow_bridge_unsent_bindings", controller=controller.url) == 1

        wait_for("what cannot be sent is told", failing)
        assert probe(address[1], "/healthz") == (200, "ok\n")
        assert probe(address[1], "/readyz") == (503, "no controller has confirmed the lease\n")
        home_agent.terminal.close()
        wait_for("the home agent's death is told", lambda: scrape(metrics)("hoaflow_bridge_home_agent_up") == 0)


def test_start_handover_and_removal(controller: Controller, home_agent: HomeAgent, running: Bridge) -> None:
    first = [path for _, path, _ in controller.requests][:2]
    assert first == [f"/v1/home-agents/{HOME_AGENT}", f"/v1/home-agents/{HOME_AGENT}/bindings"]
    announced = {"home_prefixes": [HOME_PREFIX], "lease": 2, "status": "up"}
    assert announced.items() <= controller.home_agents[HOME_AGENT].items()
    home_agent.move(HOA, LINK_2)
    controller.wait(lambda: controller.care_of() == {HOA: LINK_2})
    assert controller.bindings[HOA]["sequence"] == 101
    assert controller.bindings[HOA]["lifetime"] in (59, 60)
    line = running.wait("binding-sent")
    assert re.fullmatch(
        rf"time=\S+Z level=info event=binding-sent controller={controller.url}"
        rf" home_address={HOA} care_of_address={LINK_2} sequence=101 status=200"
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


def test_comes_from_the_source_address_asked_for(controller: Controller, home_agent: HomeAgent) -> None:
    with bridge(*arguments(controller, home_agent.terminal.port, "--source-address", "127.0.0.2")):
        controller.wait(lambda: controller.care_of() == {HOA: LINK_1})
    assert controller.clients == {"127.0.0.2"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--home-agent", "192.0.2.1"], "expected IPv6 with --protocol mipv6"),
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
