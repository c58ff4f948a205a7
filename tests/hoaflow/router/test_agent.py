# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router run` as a process, with a controller that fails on demand, on a real switch and kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hoaflow.tunnel.pairs import Pair, PairFilter
from hoaflow.tunnel.seg6 import Seg6Routes
from tests.support.fake_controller import FakeController
from tests.support.logs import errors_in
from tests.support.ovs import Ovs
from tests.support.router_lab import (
    CHECKOUT,
    CN,
    CN4,
    COA,
    COA_2,
    DPID,
    HA,
    HA_2,
    HOA,
    HOA4,
    MNP4_HOST,
    OTHER_HOA,
    OTHER_HOA4,
    ROUTER,
    ROUTER4,
    RouterLab,
    sh,
    until,
)

MNP, MNP4 = "2001:db8:99:10::/64", "10.99.1.0/24"


@pytest.fixture
def lab(ovs: Ovs) -> Iterator[RouterLab]:
    with RouterLab(ovs) as running:
        running.setup()
        yield running


@pytest.fixture
def controller(ovs: Ovs) -> Iterator[FakeController]:
    with ovs.inside():
        fake = FakeController()
    with fake:
        yield fake


class AgentProcess:
    """`hoaflow-router run`; its log goes to a file."""

    def __init__(self, lab: RouterLab, port: int, log: Path) -> None:
        self.log_file = log
        self.command = lab.router_command("run", "--bridge", lab.bridge, "--controller", f"http://127.0.0.1:{port}")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(self.command, stderr=log, stdout=log, cwd=CHECKOUT)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def log(self) -> str:
        return self.log_file.read_text()


@pytest.fixture
def agent(lab: RouterLab, controller: FakeController, tmp_path: Path) -> Iterator[AgentProcess]:
    running = AgentProcess(lab, controller.port, tmp_path / "agent.log")
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.end()
    assert errors_in(running.log()) == []


def installed(lab: RouterLab) -> dict[str, str]:
    with Seg6Routes(lab.endpoint().namespace) as routes:
        return routes.installed()


def accepted(lab: RouterLab) -> set[Pair]:
    return PairFilter(lab.endpoint().namespace).installed()


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
    controller.know(HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the binding is applied")
    assert " 0% packet loss" in lab.ping("cn", HOA)
    assert "100% packet loss" in lab.ping("mn", CN, "-I", OTHER_HOA)

    lab.roam(COA_2)
    controller.bind(HOA, COA_2, HA)
    until(controller.up_to_date, "the handover is applied")
    until(
        lambda: (installed(lab), accepted(lab)) == ({HOA: COA_2}, {Pair(COA_2, HOA)}),
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
    controller.know(HA)
    for home_address in (HOA, HOA4, MNP4):
        controller.bind(home_address, COA, HA)
    until(controller.up_to_date, "the bindings are applied")
    assert installed(lab) == dict.fromkeys((HOA, HOA4, MNP4), COA)
    for home_address in (HOA, HOA4, MNP4_HOST):
        assert " 0% packet loss" in lab.ping("cn", home_address)
    assert "100% packet loss" in lab.ping("mn", CN4, "-I", OTHER_HOA4)

    lab.roam(COA_2)
    controller.bind(HOA4, COA_2, HA)
    until(controller.up_to_date, "the handover is applied")
    assert " 0% packet loss" in lab.ping("cn", HOA4)
    until(lambda: Pair(COA, HOA4) not in accepted(lab), "the old pair is gone")

    controller.unbind(HOA4)
    controller.unbind(MNP4)
    until(lambda: (installed(lab), accepted(lab)) == ({HOA: COA}, {Pair(COA, HOA)}), "the IPv6 one stays alone")
    assert controller.last()["failed"] == []


def narrow(lab: RouterLab, mtu: int) -> None:
    """Narrow the link between the router and the mobile node."""
    lab.ip("rt", "link", "set", "acc", "mtu", str(mtu))


def test_a_narrow_link_behind_the_router_is_told_to_the_correspondents(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.steer()
    controller.know(HA)
    for home_address in (HOA, MNP4):
        controller.bind(home_address, COA, HA)
    until(controller.up_to_date, "the bindings are applied")
    narrow(lab, 1400)
    told = lab.ping("cn", HOA, "-M", "do", "-s", "1400")
    assert f"From {ROUTER} icmp_seq=1 Packet too big: mtu=1360" in told
    assert " 0% packet loss" in lab.ping("cn", HOA, "-M", "do", "-s", str(1360 - 48))
    told = lab.ping("cn", MNP4_HOST, "-M", "do", "-s", "1400")
    assert f"From {ROUTER4} icmp_seq=1 Frag needed and DF set (mtu = 1360)" in told
    assert " 0% packet loss" in lab.ping("cn", MNP4_HOST, "-M", "do", "-s", str(1360 - 28))
    assert controller.last()["failed"] == []
    sink = lab.sink("mn", HOA, 5001)
    sent = (
        f"import socket; c = socket.create_connection(('{HOA}', 5001), 10); c.sendall(bytes(100_000));"
        "c.shutdown(socket.SHUT_WR); print(c.recv(99).decode())"
    )
    # What was learned is forgotten, so that TCP has to learn it, too.
    lab.ip("cn", "-6", "route", "flush", "cache")
    with sink:
        assert lab.run("cn", sys.executable, "-c", sent).strip() == "100000"


def test_an_unreachable_care_of_address_is_told_to_the_correspondents(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.steer()
    controller.know(HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the binding is applied")
    lab.ip("rt", "-6", "route", "add", "unreachable", f"{COA}/128")
    assert f"From {ROUTER} icmp_seq=1 Destination unreachable: Address unreachable" in lab.ping("cn", HOA)


def test_what_only_fragments_could_carry_is_left_to_the_home_agent(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.steer()
    controller.know(HA)
    for home_address in (HOA, OTHER_HOA, HOA4):
        controller.bind(home_address, COA, HA)
    until(controller.up_to_date, "the bindings are applied")
    narrow(lab, 1300)
    assert "mtu=1280" in lab.ping("cn", HOA, "-M", "do", "-s", "1400")
    lab.ping("cn", HOA4, "-M", "dont", "-s", "1400")
    until(lambda: {each["home_address"] for each in controller.last()["failed"]} == {HOA, HOA4}, "both are given back")
    assert all("1260 octets" in each["reason"] for each in controller.last()["failed"])
    controller.bind(HOA, COA_2, HA)
    until(
        lambda: {each["home_address"] for each in controller.last()["failed"]} == {HOA4},
        "another care-of address may have a wider path",
    )


INVALID_DROPPED = """
table inet fw {
    chain input { type filter hook input priority 0; policy drop;
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ct state established,related accept
    }
    chain forward { type filter hook forward priority 0; policy %s;
        ct state established,related accept
        ct state invalid drop
        ip6 nexthdr { 41, 4 } accept
        iifname "lan" ct state new accept
    }
}
"""


def test_answers_of_offloaded_connections_are_not_invalid_to_the_routers_firewall(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.steer()
    controller.know(HA)
    for home_address in (HOA, HOA4):
        controller.bind(home_address, COA, HA)
    until(controller.up_to_date, "the bindings are applied")
    # As Debian's nftables.conf does: what others have goes first.
    rules = "flush ruleset\n" + INVALID_DROPPED % "accept"
    sh("ip", "netns", "exec", lab.names["rt"], "nft", "-f", "-", stdin=rules)
    until(lambda: lab.run("rt", "nft", "list", "tables").count("hoaflow") == 2, "the agent puts back what is its own")
    assert controller.last()["failed"] == []
    with lab.sink("mn", HOA, 5001), lab.sink("mn", HOA4, 5001):
        for home_address in (HOA, HOA4):
            assert " 0% packet loss" in lab.ping("cn", home_address)
            sent = f"import socket; socket.create_connection(('{home_address}', 5001), 5)"
            lab.run("cn", sys.executable, "-c", sent)
    # The router's own connections are tracked as ever: its answers are let in by their state alone.
    lab.ip("rt", "route", "replace", "10.99.0.0/16", "via", CN4)
    assert " 0% packet loss" in lab.ping("rt", HOA4)


def test_what_the_routers_firewall_drops_stays_with_the_home_agent(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the binding is applied")
    assert controller.last()["failed"] == []
    sh("ip", "netns", "exec", lab.names["rt"], "nft", "-f", "-", stdin=INVALID_DROPPED % "drop")
    failed = until(lambda: controller.last()["failed"], "the agent notices the new rules")
    assert [each["home_address"] for each in failed] == [HOA]
    assert "chain forward of table inet fw: policy drop" in failed[0]["reason"]
    assert "warning: the router's packet filter drops what leaves the tunnel" in lab.setup()
    doctor = sh(*lab.router_command("doctor", "--bridge", lab.bridge), check=False)
    assert "drops what leaves the tunnel: chain forward of table inet fw: policy drop" in doctor
    lab.run("rt", "nft", "insert", "rule", "inet", "fw", "forward", "iifname", '"hfk-*"', "accept")
    until(lambda: controller.last()["failed"] == [], "the agent notices the rule that lets them through")
    assert "warning" not in lab.setup()
    doctor = sh(*lab.router_command("doctor", "--bridge", lab.bridge), check=False)
    assert "drops nothing that goes direct" in doctor
    lab.run("rt", "nft", "insert", "rule", "inet", "fw", "forward", "ip6", "nexthdr", "41", "drop")
    failed = until(lambda: controller.last()["failed"], "the agent notices that no tunnel packet gets to a mobile node")
    said = "tunnel packets to care-of addresses (IPv6 next header 41): chain forward of table inet fw: rule ip6 nexthdr"
    assert said in failed[0]["reason"]
    assert "next header 41" in lab.setup()


def test_ipv4_bindings_fail_alone_where_the_router_does_not_forward_ipv4(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.run("rt", "sysctl", "-qw", "net.ipv4.conf.all.forwarding=0")
    lab.setup()
    controller.know(HA)
    for home_address in (HOA, HOA4):
        controller.bind(home_address, COA, HA)
    until(controller.up_to_date, "the list is applied")
    assert installed(lab) == {HOA: COA}
    (failed,) = controller.last()["failed"]
    assert failed["home_address"] == HOA4
    assert "sysctl -w net.ipv4.ip_forward=1" in failed["reason"]
    lab.run("rt", "sysctl", "-qw", "net.ipv4.conf.all.forwarding=1")
    lab.setup()
    until(lambda: not controller.last()["failed"], "the router forwards IPv4 now")
    assert installed(lab) == {HOA: COA, HOA4: COA}


def test_what_is_acknowledged_is_in_the_kernel(lab: RouterLab, controller: FakeController, agent: AgentProcess) -> None:
    """At each acknowledgement, not some time later: the controller installs the flow on it."""
    controller.know(HA)
    for number in range(1, 20):
        controller.bind(HOA, f"2001:db8:2::{number:x}", HA)
        until(controller.up_to_date, "the binding is applied")
        assert installed(lab) == {HOA: f"2001:db8:2::{number:x}"}


def test_a_killed_agent_starts_again_and_removes_only_what_is_gone(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA)
    controller.bind(HOA, COA, HA)
    controller.bind(OTHER_HOA, COA, HA)
    until(controller.up_to_date, "the bindings are applied")
    agent.end(signal.SIGKILL)
    assert installed(lab) == {HOA: COA, OTHER_HOA: COA}
    controller.unbind(OTHER_HOA)
    agent.start()
    until(controller.up_to_date, "the agent is back")
    until(
        lambda: (installed(lab), accepted(lab)) == ({HOA: COA}, {Pair(COA, HOA)}), "what is not wanted any more is gone"
    )


def test_sigterm_ends_it_at_once_and_leaves_the_routes(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the binding is applied")
    assert agent.end() == 0
    assert installed(lab) == {HOA: COA}
    assert "event=stopped" in agent.log()


def test_a_restarted_controller_deletes_nothing_before_the_snapshot(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA)
    controller.bind(HOA, COA, HA)
    controller.bind(OTHER_HOA, COA, HA)
    until(controller.up_to_date, "the bindings are applied")
    controller.restart()
    until(controller.up_to_date, "the agent has announced itself again")
    assert installed(lab) == {HOA: COA, OTHER_HOA: COA}
    controller.bind(HOA, COA_2, HA)
    until(controller.up_to_date, "the first binding of the snapshot")
    assert installed(lab) == {HOA: COA_2, OTHER_HOA: COA}
    controller.know(HA)
    until(controller.up_to_date, "the snapshot is complete")
    until(
        lambda: (installed(lab), accepted(lab)) == ({HOA: COA_2}, {Pair(COA_2, HOA)}),
        "what is not wanted any more is gone",
    )


def test_it_outlives_an_unreachable_controller_and_logs_it_once(
    lab: RouterLab, ovs: Ovs, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the binding is applied")
    until(lambda: agent.log().count("state=ok") == 1, "it says that the controller is there")
    controller.die()
    until(lambda: "lost, routes kept" in agent.log(), "the loss is noticed")
    with ovs.inside():
        anew = FakeController(port=controller.port)
    with anew:
        anew.bind(HOA, COA_2, HA)
        until(anew.up_to_date, "the agent is back")
        assert installed(lab) == {HOA: COA_2}
        until(lambda: agent.log().count("state=ok") == 2, "it says that the controller is back")
        assert agent.log().count("lost, routes kept") == 1


@pytest.mark.parametrize("status", [500, 503, 404, 409])
def test_refusals_are_retried(lab: RouterLab, controller: FakeController, agent: AgentProcess, status: int) -> None:
    controller.know(HA)
    until(controller.up_to_date, "the agent is there")
    controller.failures.extend([status] * 3)
    controller.bind(HOA, COA, HA)
    until(lambda: controller.up_to_date() and not controller.failures, "the binding is applied")
    assert installed(lab) == {HOA: COA}


def test_one_bad_binding_is_reported_and_the_others_go_on(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA, HA_2)
    controller.bind(OTHER_HOA, COA, HA)
    controller.bind("2001:db8:88::100", COA, HA_2)
    controller.bind("2001:db8:99::300", "nonsense", HA)
    controller.bind(MNP, COA_2, HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the list is applied")
    assert installed(lab) == {HOA: COA, OTHER_HOA: COA, MNP: COA_2}
    failed = {entry["home_address"]: entry["reason"] for entry in controller.last()["failed"]}
    assert failed.keys() == {"2001:db8:88::100", "2001:db8:99::300"}
    assert "hoaflow-router setup for it" in failed["2001:db8:88::100"]
    assert "nonsense" in failed["2001:db8:99::300"]


def test_a_prefix_that_nft_refuses_fails_alone_until_it_fits(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    """Interval sets of nftables take no prefix inside one that is there already."""
    wide, narrow = "2001:db8:99::/48", "2001:db8:99:10::/60"
    controller.know(HA)
    controller.bind(wide, COA, HA)
    until(controller.up_to_date, "the wide prefix is applied")
    controller.bind(narrow, COA, HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the list is applied")
    assert [entry["home_address"] for entry in controller.last()["failed"]] == [narrow]
    assert installed(lab) == {wide: COA, HOA: COA}
    controller.unbind(wide)
    until(lambda: controller.up_to_date() and not controller.last()["failed"], "the other one fits now")
    until(lambda: installed(lab) == {narrow: COA, HOA: COA}, "what is not wanted any more is gone")


def test_endpoints_removed_and_added_while_it_runs_are_noticed(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA, HA_2)
    controller.bind(HOA, COA, HA)
    controller.bind("2001:db8:88::100", COA, HA_2)
    until(lambda: controller.last().get("failed"), "there is no endpoint for the second home agent yet")
    lab.router("teardown", "--bridge", lab.bridge)
    until(lambda: controller.last()["endpoints"] == [], "the agent says that no endpoint is left")
    assert len(controller.last()["failed"]) == 2
    lab.setup()
    lab.setup(home_agent=HA_2)
    controller.restart()  # it announces itself again, and looks at the database then
    controller.bind(HOA, COA, HA)
    controller.bind("2001:db8:88::100", COA, HA_2)
    until(lambda: len(controller.last()["endpoints"]) == 2 and controller.up_to_date(), "both are announced")
    assert controller.last()["failed"] == []
    assert installed(lab) == {HOA: COA}
    with Seg6Routes(lab.endpoint(HA_2).namespace) as routes:
        assert routes.installed() == {"2001:db8:88::100": COA}


def test_a_namespace_made_anew_gets_its_bindings_back(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the binding is applied")
    lab.router("teardown", "--bridge", lab.bridge)
    lab.setup()
    until(lambda: installed(lab) == {HOA: COA} and accepted(lab) == {Pair(COA, HOA)}, "it is applied again")


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


def test_run_without_the_bridge_ends_with_the_reason(lab: RouterLab) -> None:
    with pytest.raises(RuntimeError, match="nosuch") as failure:
        lab.router("run", "--bridge", "nosuch", "--controller", "http://127.0.0.1:1")
    assert "Traceback" not in str(failure.value)
    assert os.path.exists(f"/run/netns/{lab.endpoint().namespace}")
