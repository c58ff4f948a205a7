# SPDX-License-Identifier: Apache-2.0
"""Bridge, router's agent, switch and command line with a controller that lets in tokens over TLS alone."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridge import HOME_PREFIX, Bridge, Terminal, bridge, entry
from tests.support.checkout import CHECKOUT
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.operator import Operator
from tests.support.ovs import Ovs
from tests.support.pki import Authority
from tests.support.router_lab import COA, DPID, HA, HOA, RouterLab
from tests.support.tokens import TABLES, TOKENS, write_token, write_tokens
from tests.support.waiting import wait_for
from topologies.waiting import patient

NEW = "another-token-of-the-bridge-and-longer"


class System:
    """A controller that wants a token and a certificate of each client, and a certificate of each switch."""

    def __init__(self, ovs: Ovs, directory: Path) -> None:
        self.directory = directory
        authority = Authority(directory / "ca")
        pair = authority.server("controller", "127.0.0.1")
        client = authority.client("client")
        self.ca = ["--ca", str(authority.certificate)]
        self.access = [*self.ca, "--certificate", str(client.certificate), "--key", str(client.key)]
        self.tokens = write_tokens(directory, TABLES.replace("0000000000000001", f"{DPID:016x}"))
        tls = ssl.create_default_context(cafile=str(authority.certificate))
        tls.load_cert_chain(*client)
        settings = f"tokens_file = {self.tokens}\nrest_certificate = {pair.certificate}\nrest_key = {pair.key}\n"
        settings += f"rest_client_ca = {authority.certificate}"
        options = ["--ctl-cert", str(pair.certificate), "--ctl-privkey", str(pair.key)]
        options += ["--ca-certs", str(authority.certificate), "--ofp-ssl-listen-port", str(OPENFLOW_PORT)]
        self.controller = Controller(ovs, directory, settings, options=options, tls=tls, token=TOKENS["admin"])
        switch = authority.client("switch")
        ovs.vsctl("set-ssl", str(switch.key), str(switch.certificate), str(authority.certificate))

    def token(self, name: str) -> list[str]:
        """Return a client's option."""
        return ["--token-file", str(write_token(self.directory, name))]


@pytest.fixture
def system(ovs: Ovs, tmp_path: Path) -> Iterator[System]:
    made = System(ovs, tmp_path)
    with made.controller:
        yield made
    made.controller.assert_log_clean()


@pytest.fixture
def running_bridge(ovs: Ovs, system: System) -> Iterator[Bridge]:
    """Provide the bridge of a home agent that has one binding."""
    with ovs.inside():
        terminal = Terminal(lambda: entry(HOA, COA))
    console = ["--console", f"127.0.0.1:{terminal.port}", "--no-netlink"]
    to_controller = ["--controller", system.controller.url, *system.access, *system.token("bridge")]
    with bridge("--home-prefix", HOME_PREFIX, *console, *to_controller, command=tuple(ovs.command())) as running:
        yield running
    terminal.close()


def test_all_of_it_over_tls(ovs: Ovs, system: System, running_bridge: Bridge) -> None:
    controller = system.controller
    with RouterLab(ovs) as lab:
        lab.setup()
        ovs.vsctl("set-controller", lab.bridge, f"ssl:127.0.0.1:{OPENFLOW_PORT}")
        log = system.directory / "agent.log"
        command = lab.router_command("run", "--bridge", lab.bridge, "--controller", controller.url)
        with log.open("w") as output:
            agent = subprocess.Popen(
                [*command, *system.access, *system.token("router")], stdout=output, stderr=output, cwd=CHECKOUT
            )
        try:

            def state() -> bool:
                answer = controller.call("GET", f"/v1/bindings/{HOA}")
                return answer.status == 200 and answer.body["state"] == "active"

            wait_for("the binding is active", state)
        finally:
            agent.terminate()
            agent.wait(patient(30))
        assert f"{HA}" in controller.log
        assert not any(token in log.read_text() + controller.log for token in TOKENS.values())
    hoaflow = Operator(ovs)
    reach = ["--controller", controller.url, *system.access]
    listed = hoaflow.json("bindings", "list", *reach, *system.token("reader"))
    assert [item["home_address"] for item in listed["bindings"]] == [HOA]
    denied = hoaflow("bindings", "delete", HOA, *reach, *system.token("reader"), status=4)
    assert "token reader is for read, this call needs admin" in denied.err
    assert "--token-file" in hoaflow("routers", *reach, status=4).err
    assert "--certificate" in hoaflow("routers", "--controller", controller.url, *system.ca, status=3).err


def test_a_bridge_that_is_denied_says_so_and_goes_on_with_a_new_token(system: System, running_bridge: Bridge) -> None:
    running_bridge.wait("snapshot-sent")
    system.tokens.write_text(TABLES.replace(TOKENS["bridge"], NEW))
    system.controller.hang_up()
    refused = running_bridge.wait("announcement-refused")
    assert "401 this token is not known here" in refused
    assert "bridge.token" in refused
    (system.directory / "bridge.token").write_text(NEW)
    running_bridge.wait("controller-reachable", timeout=40.0)
    running_bridge.wait("snapshot-sent", count=2)
    assert not any(token in "\n".join(running_bridge.lines) for token in (NEW, *TOKENS.values()))


def test_an_agent_that_is_denied_says_so_and_ends_nothing(ovs: Ovs, system: System) -> None:
    with RouterLab(ovs) as lab:
        lab.setup()
        log = system.directory / "agent.log"
        command = lab.router_command("run", "--bridge", lab.bridge, "--controller", system.controller.url)
        with log.open("w") as output:
            agent = subprocess.Popen(
                [*command, *system.access, *system.token("other-router")], stdout=output, stderr=output, cwd=CHECKOUT
            )
        try:
            wait_for("it says so", lambda: "refuses this agent" in log.read_text())
            assert "403 dpid: this token is for router 0000000000000002" in log.read_text()
            assert agent.poll() is None
        finally:
            agent.terminate()
            assert agent.wait(patient(30)) == 0
