# SPDX-License-Identifier: Apache-2.0
"""What an agent's router does with packets that its paths or its firewall do not take."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest

from hoaflow.router.firewall import Probe, what_drops
from hoaflow.router.probes import endpoint_probes
from tests.support.fake_controller import FakeController
from tests.support.router_agent import MNP4, AgentProcess, narrow, offload
from tests.support.router_lab import (
    CN4,
    COA,
    COA_2,
    HA,
    HA_2,
    HOA,
    HOA4,
    MNP4_HOST,
    OTHER_HOA,
    ROUTER,
    ROUTER4,
    RouterLab,
    sh,
    until,
)


def test_a_narrow_link_behind_the_router_is_told_to_the_correspondents(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.steer()
    offload(controller, HOA, MNP4)
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
    offload(controller, HOA)
    lab.ip("rt", "-6", "route", "add", "unreachable", f"{COA}/128")
    assert f"From {ROUTER} icmp_seq=1 Destination unreachable: Address unreachable" in lab.ping("cn", HOA)


@pytest.mark.parametrize(
    "obstacle",
    [
        ("-6", "rule", "{}", "pref", "5", "to", f"{COA}/128", "blackhole"),
        ("-6", "rule", "{}", "pref", "5", "iif", "hfk-*", "to", f"{COA}/128", "prohibit"),
        ("-6", "route", "{}", "unreachable", f"{COA}/128"),
        ("-6", "route", "{}", "blackhole", f"{COA}/128"),
    ],
    ids=["rule", "rule for tunnel packets", "unreachable", "blackhole"],
)
def test_bindings_whose_tunnel_packets_the_routers_kernel_drops_are_left_to_the_home_agent(
    lab: RouterLab, controller: FakeController, agent: AgentProcess, obstacle: Sequence[str]
) -> None:
    offload(controller, HOA)
    controller.bind(OTHER_HOA, COA_2, HA)
    until(controller.up_to_date, "both are carried")
    assert controller.last()["failed"] == []
    words = [lab.endpoint().kernel_port if word == "hfk-*" else word for word in obstacle]
    lab.ip("rt", *(word.format("add") for word in words))
    until(lambda: [each["home_address"] for each in controller.last()["failed"]] == [HOA], "one is given back")
    (failed,) = controller.last()["failed"]
    assert f"no route to care-of address {COA}: ip route get {COA} from {HA} iif" in failed["reason"]
    lab.ip("rt", *(word.format("del") for word in words))
    until(lambda: controller.last()["failed"] == [], "it is carried again")


def test_a_care_of_address_without_a_route_is_never_said_to_be_carried(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    offload(controller, OTHER_HOA)
    controller.bind(HOA, "2001:db8:77::2", HA)
    until(controller.up_to_date, "it is looked at")
    assert [each["home_address"] for each in controller.last()["failed"]] == [HOA]


def test_what_only_fragments_could_carry_is_left_to_the_home_agent(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    lab.steer()
    offload(controller, HOA, OTHER_HOA, HOA4)
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
    offload(controller, HOA, HOA4)
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
    offload(controller, HOA)
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
    said = "tunnel packets to care-of addresses (IPv6 next header 41): chain forward of table inet fw: rule ip6 nexthdr"
    # A trace that had begun before the rule was there may say that its handle is unknown; the agent then looks again.
    until(lambda: any(said in each["reason"] for each in controller.last()["failed"]), "the agent names the new rule")
    assert "next header 41" in lab.setup()


@pytest.mark.parametrize("priority", [-300, -450])
def test_what_is_dropped_before_connections_are_tracked_stays_with_the_home_agent(
    lab: RouterLab, controller: FakeController, agent: AgentProcess, priority: int
) -> None:
    """As `iptables -t raw` drops it, and with raw_before_defrag=1."""
    offload(controller, HOA)
    chain = f"chain raw {{ type filter hook prerouting priority {priority}; ip6 nexthdr 41 drop; }};"
    lab.run("rt", "nft", f"table ip6 fw {{ {chain} }}")
    failed = until(lambda: controller.last()["failed"], "the agent notices the new rule")
    assert "tunnel packets to care-of addresses (IPv6 next header 41): chain raw of table ip6 fw" in failed[0]["reason"]
    lab.run("rt", "nft", "delete", "table", "ip6", "fw")
    until(lambda: controller.last()["failed"] == [], "the agent notices that it is gone")


def test_what_is_dropped_before_the_packet_filter_stays_with_the_home_agent(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    offload(controller, HOA)
    chain = f"chain in {{ type filter hook ingress device {lab.endpoint().kernel_port} priority 0; drop; }};"
    lab.run("rt", "nft", f"table netdev fw {{ {chain} }}")
    failed = until(lambda: controller.last()["failed"], "the agent notices the new rule")
    assert "before its packet filter: nftables table netdev fw" in failed[0]["reason"]
    lab.run("rt", "nft", "delete", "table", "netdev", "fw")
    until(lambda: controller.last()["failed"] == [], "the agent notices that it is gone")


def test_what_one_endpoint_is_tried_with_is_not_taken_for_anothers(lab: RouterLab) -> None:
    lab.setup()
    lab.setup(home_agent=HA_2)
    lab.ip("rt", "-6", "route", "add", HA_2, "via", "2001:db8:10::2")
    one, other = lab.endpoint(), lab.endpoint(HA_2)
    for tried, meanwhile in ((one, other), (other, one)):
        with lasting(endpoint_probes(meanwhile)):
            assert what_drops(tried.kernel_namespace, endpoint_probes(tried)) is None


@contextlib.contextmanager
def lasting(probes: Sequence[Probe]) -> Iterator[None]:
    """Send packets of these kinds, one after the other, as long as the context lasts."""
    ended = threading.Event()

    def send(opened: contextlib.ExitStack) -> None:
        with opened:
            sends = [opened.enter_context(probe.sender()) for probe in probes]
            while not ended.wait(0.02):
                for send in sends:
                    send()

    sending = threading.Thread(target=send, args=(contextlib.ExitStack(),))
    sending.start()
    try:
        yield
    finally:
        ended.set()
        sending.join()
