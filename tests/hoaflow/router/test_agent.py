# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router run` as a process, on a real switch and kernel: bindings come, change and go."""

from __future__ import annotations

from pathlib import Path

from hoaflow.tunnel.spoofing_filter import SourcePair
from tests.support.fake_controller import FakeController
from tests.support.router_agent import MNP4, AgentProcess, accepted, installed, offload
from tests.support.router_lab import (
    CN,
    CN4,
    COA,
    COA_2,
    DPID,
    HA,
    HOA,
    HOA4,
    MNP4_HOST,
    OTHER_HOA,
    OTHER_HOA4,
    RouterLab,
    until,
)


def test_bindings_come_change_and_go_end_to_end(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.steer()
    endpoint = lab.endpoint()
    until(lambda: controller.acknowledged, "the agent announces itself")
    assert controller.acknowledged[0] == {
        "revision": 0,
        "router_macs": sorted(lab.mac("rt", interface) for interface in ("lan", "acc", "home")),
        "endpoints": [{"home_agent": HA, "port": endpoint.port, "mac": endpoint.mac}],
        "failed": [],
    }
    assert f"/v1/routers/{DPID:016x}/tunnels/ack" in controller.calls[0]
    offload(controller, HOA)
    assert " 0% packet loss" in lab.ping("cn", HOA)
    assert "100% packet loss" in lab.ping("mn", CN, "-I", OTHER_HOA)

    lab.roam(COA_2)
    controller.bind(HOA, COA_2, HA)
    until(controller.up_to_date, "the handover is applied")
    until(
        lambda: (installed(lab), accepted(lab)) == ({HOA: COA_2}, {SourcePair(COA_2, HOA)}),
        "what is not wanted any more is gone",
    )
    assert " 0% packet loss" in lab.ping("cn", HOA)

    controller.unbind(HOA)
    until(controller.up_to_date, "the removal is applied")
    until(lambda: (installed(lab), accepted(lab)) == ({}, set()), "what is not wanted any more is gone")
    assert controller.last()["failed"] == []


def test_mac_addresses_of_the_routers_kernel_that_come_and_go_are_announced(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    """As VRRP's do (RFC 9568 section 7.3), and those of an interface that is replaced."""
    virtual = "00:00:5e:00:02:01"

    def announced(mac: str) -> bool:
        return mac in controller.last().get("router_macs", ())

    lan = lab.mac("rt", "lan")
    until(lambda: announced(lan), "the agent announces itself")
    lab.ip("rt", "link", "add", "vrrp", "link", "lan", "address", virtual, "type", "macvlan", "mode", "private")
    lab.ip("rt", "link", "set", "vrrp", "up")
    until(lambda: announced(virtual) and announced(lan), "the virtual router's is announced")
    lab.ip("rt", "link", "set", "vrrp", "down")
    lab.ip("rt", "link", "set", "lan", "address", "02:00:00:00:00:77")
    until(lambda: announced("02:00:00:00:00:77") and not announced(virtual), "what has changed is announced")
    assert not announced(lan)


def test_ipv4_and_ipv6_home_addresses_share_a_list_end_to_end(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.steer()
    offload(controller, HOA, HOA4, MNP4)
    assert installed(lab) == dict.fromkeys((HOA, HOA4, MNP4), COA)
    for home_address in (HOA, HOA4, MNP4_HOST):
        assert " 0% packet loss" in lab.ping("cn", home_address)
    assert "100% packet loss" in lab.ping("mn", CN4, "-I", OTHER_HOA4)

    lab.roam(COA_2)
    controller.bind(HOA4, COA_2, HA)
    until(controller.up_to_date, "the handover is applied")
    assert " 0% packet loss" in lab.ping("cn", HOA4)
    until(lambda: SourcePair(COA, HOA4) not in accepted(lab), "the old pair is gone")

    controller.unbind(HOA4)
    controller.unbind(MNP4)
    until(lambda: (installed(lab), accepted(lab)) == ({HOA: COA}, {SourcePair(COA, HOA)}), "the IPv6 one stays alone")
    assert controller.last()["failed"] == []


def test_ipv4_bindings_fail_alone_where_the_router_does_not_forward_ipv4(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.run("rt", "sysctl", "-qw", "net.ipv4.conf.all.forwarding=0")
    lab.setup()
    offload(controller, HOA, HOA4)
    assert installed(lab) == {HOA: COA}
    (failed,) = controller.last()["failed"]
    assert failed["home_address"] == HOA4
    assert "sysctl -w net.ipv4.ip_forward=1" in failed["reason"]
    lab.run("rt", "sysctl", "-qw", "net.ipv4.conf.all.forwarding=1")
    lab.setup()
    until(lambda: not controller.last()["failed"], "the router forwards IPv4 now")
    assert installed(lab) == {HOA: COA, HOA4: COA}


def test_ten_thousand_bindings_are_applied_in_bulk(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA)
    until(controller.up_to_date, "the agent is there")
    wanted = {f"2001:db8:99::{n:x}": f"2001:db8:2::{n:x}" for n in range(0x1000, 0x1000 + 10_000)}
    acknowledgements = len(controller.acknowledged)
    with controller.changed:
        for home_address, care_of_address in wanted.items():
            controller.bind(home_address, care_of_address, HA)
    until(controller.up_to_date, "all are applied")
    assert installed(lab) == wanted
    assert len(accepted(lab)) == len(wanted)
    assert len(controller.acknowledged) == acknowledgements + 1
    assert lab.status()["endpoints"][0]["routes"] == len(wanted)


# `hoaflow-router` that compares its endpoints over and over until a file exists, and makes another when it begins to.
AGENT_THAT_COMPARES_ON = """
import itertools, pathlib, sys
from hoaflow.router import cli, keeper
released, begun = map(pathlib.Path, sys.argv[1:3])
keep = keeper.EndpointKeeper.keep

def again_and_again(endpoints):
    yield from endpoints
    while not released.exists():
        begun.touch()
        yield from endpoints

def keep_on(self, bridge, *more):
    rounds = iter([bridge.endpoints, again_and_again(bridge.endpoints)])  # first it looks which there are
    class Endpoints:
        def __iter__(self):
            return iter(next(rounds))
    return keep(self, bridge._replace(endpoints=Endpoints()), *more)

keeper.EndpointKeeper.keep = keep_on
sys.exit(cli.main(sys.argv[3:]))
"""


def test_a_comparison_that_takes_long_delays_no_handover(
    lab: RouterLab, controller: FakeController, tmp_path: Path
) -> None:
    lab.setup()
    released, begun = tmp_path / "released", tmp_path / "begun"
    agent = AgentProcess(lab, [f"http://127.0.0.1:{controller.port}"], tmp_path / "agent.log")
    script = agent.command.index("-m")
    agent.command[script : script + 2] = ["-c", AGENT_THAT_COMPARES_ON, str(released), str(begun)]
    released.touch()
    agent.start()
    try:
        offload(controller, HOA)
        released.unlink()
        until(begun.exists, "the agent compares")
        controller.bind(HOA, COA_2, HA)
        until(controller.up_to_date, "the handover is applied meanwhile")
        assert installed(lab) == {HOA: COA_2}
    finally:
        released.touch()
        agent.end()
