# SPDX-License-Identifier: Apache-2.0
"""A router's switch restarts and renumbers its ports under a real controller and agent: packets go direct again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridge import HOME_PREFIX
from tests.support.checkout import CHECKOUT
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.router_lab import CN, COA, HA, HOA, TIMEOUT, RouterLab, until


class System:
    """A lab under a controller that has one binding: HOA at COA."""

    def __init__(self, lab: RouterLab, controller: Controller) -> None:
        self.lab = lab
        self.controller = controller
        self.call = controller.call

    def bind(self) -> None:
        """As a bridge does, with a lease that outlasts the test."""
        leased = {"home_prefixes": [HOME_PREFIX], "lease": 300, "status": "up"}
        self.controller.put(f"/v1/home-agents/{HA}", leased)
        binding = {"home_address": HOA, "care_of_address": COA, "home_agent": HA, "lifetime": 600}
        self.controller.put(f"/v1/home-agents/{HA}/bindings", {"bindings": [binding]})

    def direct(self) -> bool:
        """Tell whether both ways are direct, and said to be: the home agent eats what comes to it."""
        pings = [self.lab.ping("cn", HOA), self.lab.ping("mn", CN, "-I", HOA)]
        return all(" 0% packet loss" in ping for ping in pings) and self.state() == "active"

    def state(self) -> str:
        return str(self.call("GET", f"/v1/bindings/{HOA}").body["state"])


@pytest.fixture
def system(ovs: Ovs, tmp_path: Path) -> Iterator[System]:
    log = tmp_path / "agent.log"
    with RouterLab(ovs) as lab, Controller(ovs, tmp_path, "longest_lease = 600") as controller:
        lab.setup()
        ovs.vsctl("set-controller", lab.bridge, f"tcp:127.0.0.1:{OPENFLOW_PORT}")
        ovs.vsctl("set", "controller", lab.bridge, "max_backoff=1000")
        command = lab.router_command("run", "--bridge", lab.bridge, "--controller", controller.url)
        with log.open("w") as output:
            agent = subprocess.Popen(command, stdout=output, stderr=output, cwd=CHECKOUT)
        try:
            running = System(lab, controller)
            running.bind()
            until(running.direct, "packets go direct", 40)
            yield running
        finally:
            agent.terminate()
            agent.wait(TIMEOUT)


@pytest.mark.expected_ovs_log("Network is down", "No such device")
def test_packets_go_direct_again_after_the_switch_was_killed(system: System) -> None:
    """It starts without flows; what joins the nodes is put back by hand, all else by the controller."""
    system.lab.ovs.kill("ovs-vswitchd")
    system.lab.ovs.start_switch()
    system.lab.join()
    until(system.direct, "packets go direct again", 40)


def test_packets_go_direct_under_another_number_of_the_tunnel_port(system: System) -> None:
    lab, port = system.lab, system.lab.endpoint().port
    lab.ovs.vsctl("set", "interface", port, "ofport_request=77")
    assert lab.ovs.vsctl("get", "interface", port, "ofport").strip() == "77"
    until(system.direct, "packets go direct again", 40)
    assert "output:77" in lab.ovs.ofctl("dump-flows", lab.bridge)


@pytest.mark.expected_ovs_log("Network is down")
def test_packets_go_direct_again_after_the_tunnel_port_was_down(system: System) -> None:
    system.lab.ovs.run("ip", "link", "set", system.lab.endpoint().port, "down")
    until(system.direct, "packets go direct again", 40)
