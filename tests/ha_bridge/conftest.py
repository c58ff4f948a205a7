# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the bridge's tests."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.bridge import HOA, LINK_1, Bridge, bridge
from tests.support.bridge_controller import Controller
from tests.support.bridge_kernel import NETNS, ip
from tests.support.bridge_process import HomeAgent, arguments
from topologies.waiting import patient


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


@pytest.fixture
def running(controller: Controller, home_agent: HomeAgent) -> Iterator[Bridge]:
    """Provide a bridge that has told the controller of the one binding there is."""
    with bridge(*arguments(controller, home_agent.terminal.port)) as process:
        process.wait("snapshot-sent")
        assert controller.care_of() == {HOA: LINK_1}
        yield process


@pytest.fixture
def namespace() -> Iterator[None]:
    subprocess.run(["ip", "netns", "del", NETNS], check=False, capture_output=True, timeout=patient(30))
    subprocess.run(["ip", "netns", "add", NETNS], check=True, timeout=patient(30))
    try:
        ip("link", "add", "u0", "type", "veth", "peer", "name", "u1")
        for device in ("lo", "u0", "u1"):
            ip("link", "set", device, "up")
        ip("-6", "addr", "add", "2001:db8:10::2/64", "dev", "u0", "nodad")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=False, timeout=patient(30))
