# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router doctor` where the route backend is: with the userspace datapath, on any kernel."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from scapy.layers.l2 import ARP, Ether

from hoaflow.router.arp import ports_that_answer
from hoaflow.router.doctor import FAILED, OK, WARNING, Finding, verdict
from hoaflow.router.errors import NoRoute
from hoaflow.router.flow.probes import flow_probes
from hoaflow.router.flow.record import FlowRecord
from hoaflow.router.ovsdb import Bridge, Ovsdb
from hoaflow.tunnel.namespace import in_namespace
from tests.support.checkout import CHECKOUT
from tests.support.ipv4_lab import HA4
from tests.support.ovs import Ovs
from tests.support.router_lab import CN4, HA, ROUTER4, TIMEOUT, RouterLab, sh

ON_BRIDGE = "10.7.0.1"
# `hoaflow-router` that does not wait long for packets that cannot come.
IMPATIENT = """
import sys
from hoaflow.router import cli, firewall
firewall.TIMEOUT = 0.5
sys.exit(cli.main(sys.argv[1:]))
"""


def doctor(lab: RouterLab, bridge: str, *program: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the exit status of `hoaflow-router doctor --json`, and its findings by what was checked."""
    command = lab.router_command("doctor", "--bridge", bridge, "--json")
    if program:
        at = command.index("-m")
        command[at : at + 2] = program
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=CHECKOUT)
    found = json.loads(done.stdout)
    assert found["healthy"] == (done.returncode == 0)
    return done.returncode, {finding["check"]: finding for finding in found["findings"]}


@pytest.mark.parametrize(
    ("results", "bridge", "said"),
    [
        ((OK, OK), "br0", r"br0 can take traffic off its home agents\. Next, .*run --bridge br0 --controller URL"),
        ((OK, WARNING), "br0", r"br0 can take traffic off its home agents, with 1 warning\. Next, "),
        ((OK, FAILED), "br0", r"1 of 2 checks failed: follow the hint below .* doctor again"),
        ((OK, OK), None, r"can run the flow backend\. Next: hoaflow-router setup --bridge BRIDGE"),
        ((FAILED, FAILED), None, r"2 of 2 checks failed: (?s:.*)setup --bridge BRIDGE --backend route --home-agent"),
    ],
)
def test_it_ends_with_what_to_do_next(results: tuple[str, ...], bridge: str | None, said: str) -> None:
    found = [Finding("what", result, "how", "help") for result in results]
    assert re.search(said, verdict(found, bridge))


def test_a_route_backend_passes_without_a_word_of_what_the_kernel_lacks_for_the_other(lab: RouterLab) -> None:
    _, bare = doctor(lab, lab.bridge)
    assert bare["datapath"]["result"] == "warning"
    assert "datapath_type=system" in bare["datapath"]["help"]
    lab.setup()
    status, found = doctor(lab, lab.bridge)
    assert status == 0, found
    assert found[f"endpoint for {HA}"]["result"] == "ok"
    assert {finding["result"] for finding in found.values()} == {"ok"}, found


@pytest.mark.expected_ovs_log("Network is down", "No such device")
def test_a_missing_namespace_fails_with_what_to_do(lab: RouterLab) -> None:
    lab.setup()
    sh("ip", "netns", "del", lab.endpoint().namespace)
    status, found = doctor(lab, lab.bridge)
    assert status == 1
    assert "setup again" in found[f"endpoint for {HA}"]["help"]


def test_what_is_not_there_fails_with_what_to_do(lab: RouterLab) -> None:
    status, found = doctor(lab, lab.bridge)
    assert (status, found["backend"]["result"]) == (1, "failed")
    assert f"setup --bridge {lab.bridge}" in found["backend"]["help"]
    status, found = doctor(lab, "nosuch")
    assert (status, found["Open vSwitch"]["result"]) == (1, "failed")


def test_a_userspace_bridge_is_refused_the_flow_backend_and_auto_says_why(lab: RouterLab) -> None:
    before = lab.snapshot()
    # What the kernel lacks is said first; on one that has everything, what the bridge is.
    with pytest.raises(RuntimeError, match=r"not possible here: .*(this kernel lacks|the netdev datapath)"):
        lab.router("setup", "--bridge", lab.bridge, "--backend", "flow")
    with pytest.raises(RuntimeError, match="name them with --home-agent"):
        lab.router("setup", "--bridge", lab.bridge)
    assert lab.snapshot() == before
    assert "backend route, because: the flow backend is not possible here" in lab.setup()
    assert "nothing changed" in lab.setup()


@pytest.mark.parametrize("home_agent", [HA, HA4])
def test_a_missing_route_to_the_home_agent_is_named(lab: RouterLab, home_agent: str) -> None:
    lab.setup(home_agent=home_agent)
    for route in ("2001:db8:99::/64", "10.99.0.0/16"):
        lab.ip("rt", "route", "del", route)
    status, found = doctor(lab, lab.bridge, "-c", IMPATIENT)
    firewall = found[f"firewall, from {lab.endpoint(home_agent).kernel_port}"]
    assert (status, firewall["result"]) == (1, FAILED)
    assert firewall["detail"].endswith(f" has no route to {home_agent}")
    assert "packet filter" not in firewall["help"]


def test_a_check_of_sources_is_named_with_what_exempts_from_it(lab: RouterLab) -> None:
    lab.setup()
    rule = "meta nfproto ipv6 fib saddr . mark . iif oif missing drop"  # firewalld's IPv6_rpfilter
    chain = f"chain prerouting {{\ntype filter hook prerouting priority -290; policy accept;\n{rule}\n}}"
    sh("ip", "netns", "exec", lab.names["rt"], "nft", "-f", "-", stdin=f"table inet fw {{\n{chain}\n}}\n")
    status, found = doctor(lab, lab.bridge)
    firewall = found[f"firewall, from {lab.endpoint().kernel_port}"]
    assert (status, firewall["result"]) == (1, FAILED)
    assert "fib saddr" in firewall["detail"]
    assert "IPv6_rpfilter=no" in firewall["help"]


def test_a_router_of_the_flow_backend_without_any_route_is_told_that(ovs: Ovs) -> None:
    ovs.add_bridge("b0", 1)
    record = FlowRecord("hfx", "hfr", 6941, 6943, "fd00::41", "02:00:00:00:00:01", 1460)
    with pytest.raises(NoRoute, match="has no IPv6 route"):
        in_namespace(ovs.netns, lambda: flow_probes(record, "b0", None))


def port_answers(lab: RouterLab) -> bool:
    """Tell whether the kernel answers the correspondent node's ARP request for ON_BRIDGE, at the bridge's port.

    Its request for the router's address follows, whose answer takes longer, as it comes through the bridge.
    """
    with lab.tap("cn", "c0") as tap:
        for address in (ON_BRIDGE, ROUTER4):
            request = Ether(dst="ff:ff:ff:ff:ff:ff", src=lab.mac("cn", "c0")) / ARP(psrc=CN4, pdst=address)
            lab.inject("cn", "c0", bytes(request))
        (first,) = tap.await_frames(b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02", count=1)
    return bool(ARP(first[14:]).psrc == ON_BRIDGE)


def test_ports_at_which_the_kernel_answers_arp_are_named_with_what_silences_them(lab: RouterLab) -> None:
    lab.setup()
    _, found = doctor(lab, lab.bridge)
    assert "ARP at ports" not in found  # no IPv4 address
    lab.ovs.run("ip", "link", "set", lab.bridge, "up")
    lab.ovs.run("ip", "address", "add", f"{ON_BRIDGE}/24", "dev", lab.bridge)
    lab.ovs.run("ip", "route", "add", f"{CN4}/32", "dev", lab.bridge)

    def configure(arp_ignore: int, rp_filter: int) -> None:
        ports = dict.fromkeys(("s1", "s2", "s4", "s5"), arp_ignore)
        values = [f"net.ipv4.conf.{name}.arp_ignore={value}" for name, value in {"all": 0, **ports}.items()]
        values += [f"net.ipv4.conf.{name}.rp_filter={rp_filter}" for name in ("all", *ports)]
        lab.ovs.run("sysctl", "-qw", *values)

    for silent in ((0, 2), (1, 0)):
        configure(*silent)
        assert not port_answers(lab)
        _, found = doctor(lab, lab.bridge)
        assert found["ARP at ports"]["result"] == OK
    configure(0, 0)
    assert port_answers(lab)
    status, found = doctor(lab, lab.bridge)
    warned = found["ARP at ports"]
    assert (status, warned["result"]) == (0, WARNING)
    assert "answers at s1, s2, s4, s5 for" in warned["detail"]
    lab.ovs.run(*warned["help"].partition(",")[0].split())
    assert not port_answers(lab)
    _, found = doctor(lab, lab.bridge)
    assert found["ARP at ports"]["result"] == OK


def test_the_kernels_datapath_has_no_ports_that_answer_arp() -> None:
    assert ports_that_answer(Bridge("br0", "", "system", ()), Ovsdb("unix:/nonexistent")) == {}
