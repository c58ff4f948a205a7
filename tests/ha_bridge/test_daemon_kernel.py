# SPDX-License-Identifier: Apache-2.0
"""The bridge's process in its home agent's network namespace, whose kernel it follows as well."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.bridge import HOA, HOME_AGENT, HOME_PREFIX, LINK_1, LINK_2, OTHER, bridge, enter_namespace
from tests.support.bridge_controller import Controller
from tests.support.bridge_kernel import NETNS, ip
from tests.support.bridge_process import HomeAgent
from topologies.waiting import patient


def _listener_in_namespace() -> socket.socket:
    made: list[socket.socket] = []

    def make() -> None:
        enter_namespace(NETNS)
        made.append(socket.create_server(("127.0.0.1", 0)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join(patient(30))
    return made[0]


def _register(home: str, care_of: str) -> None:
    encap = ("encap", "seg6", "mode", "encap.red", "segs", care_of, "via", "2001:db8:10::1", "dev", "u0")
    ip("-6", "route", "replace", f"{home}/128", *encap, "proto", "16")


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
        ip("xfrm", "policy", "add", "src", "::/0", "dst", f"{HOA}/128", "dir", "out", *tunnel)
        options = _inside(near_controller, "--console", f"127.0.0.1:{agent.terminal.port}")
        with bridge(*options, command=ENTER) as process:
            near_controller.wait(lambda: near_controller.care_of() == {OTHER: LINK_1})
            assert HOA in process.wait("binding-withheld")
            ip("xfrm", "policy", "add", "src", "::/0", "dst", f"{OTHER}/128", "dir", "out", *tunnel)
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


def test_kernel_alone(near_controller: Controller) -> None:
    _register(HOA, LINK_1)
    with bridge(*_inside(near_controller, "--no-console"), command=ENTER) as process:
        near_controller.wait(lambda: near_controller.care_of() == {HOA: LINK_1})
        assert "lifetime" not in near_controller.bindings[HOA]
        assert "sequence" not in near_controller.bindings[HOA]
        _register(HOA, LINK_2)
        near_controller.wait(lambda: near_controller.care_of() == {HOA: LINK_2})
        ip("-6", "route", "del", f"{HOA}/128", "proto", "16")
        near_controller.wait(lambda: not near_controller.bindings)
        assert process.terminate() == 0
