# SPDX-License-Identifier: Apache-2.0
"""The bridge's process with real controllers, of which some die, hang or return."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridge import HOA, HOME_AGENT, HOME_PREFIX, LINK_1, LINK_2, Bridge, bridge
from tests.support.bridge_process import HomeAgent
from tests.support.controller import Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


@pytest.fixture
def controllers(ovs: Ovs, tmp_path: Path) -> Iterator[list[Controller]]:
    """Provide three controllers that do not know of each other."""
    with contextlib.ExitStack() as stack:
        running = []
        for host in HOSTS:
            directory = tmp_path / host
            directory.mkdir()
            controller = Controller(ovs, directory, host=host, options=("--ofp-listen-host", host))
            running.append(stack.enter_context(controller))
        yield running
        for controller in running:
            controller.assert_log_clean()


@pytest.fixture
def home_agent(ovs: Ovs) -> Iterator[HomeAgent]:
    with ovs.inside():
        running = HomeAgent()
    yield running
    running.terminal.close()


@pytest.fixture
def running(ovs: Ovs, controllers: list[Controller], home_agent: HomeAgent) -> Iterator[Bridge]:
    """Provide a bridge that has told all controllers of the one binding there is."""
    with bridge(
        *("--controller", *(controller.url for controller in controllers), "--home-prefix", HOME_PREFIX),
        *("--console", f"127.0.0.1:{home_agent.terminal.port}", "--no-netlink", "--poll", "0.1"),
        command=tuple(ovs.command()),
    ) as process:
        process.wait("snapshot-sent", len(controllers))
        yield process


def care_of(controller: Controller) -> dict[str, str]:
    """Return a controller's bindings, home address to care-of address."""
    return {each["home_address"]: each["care_of_address"] for each in controller.get("/v1/bindings")["bindings"]}


def has(controller: Controller, bindings: dict[str, str]) -> None:
    wait_for(f"{controller.url} has {bindings}", lambda: care_of(controller) == bindings)


def test_one_that_dies_or_hangs_delays_no_other_and_is_caught_up_with(
    controllers: list[Controller], home_agent: HomeAgent, running: Bridge
) -> None:
    for controller in controllers:
        has(controller, {HOA: LINK_1})
    dead, hanging, healthy = controllers
    dead.kill()
    hanging.send_signal(signal.SIGSTOP)
    try:
        for care_of_address in (LINK_2, LINK_1, LINK_2):
            home_agent.move(HOA, care_of_address)
            has(healthy, {HOA: care_of_address})
        for controller in (dead, hanging):
            wait_for(
                f"{controller.url} is missed",
                lambda: any(controller.url in line for line in running.events("controller-unreachable")),  # noqa: B023
            )
        home_agent.move(HOA, LINK_1)
        has(healthy, {HOA: LINK_1})
        (shown,) = healthy.get("/v1/home-agents")["home_agents"]
        assert (shown["home_agent"], shown["status"]) == (HOME_AGENT, "up")
    finally:
        hanging.send_signal(signal.SIGCONT)
    dead.start()
    for controller in controllers:
        has(controller, {HOA: LINK_1})
    assert not [line for line in running.events("controller-unreachable") if healthy.url in line]
    assert running.terminate() == 0
