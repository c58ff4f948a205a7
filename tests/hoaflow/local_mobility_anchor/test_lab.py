# SPDX-License-Identifier: Apache-2.0
"""Anchor, access gateways and mobile node in network namespaces: real signalling, real tunnels."""

import contextlib
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.mobility import CN
from tests.support.proxy_mobility import (
    ADDRESS,
    HOME_PREFIX,
    LMA,
    MAG_1,
    MAG_2,
    MOBILE_NODE,
    OTHER_MAC,
    OTHER_NODE,
    OTHER_PREFIX,
    PREFIX,
    ProxyLab,
)
from tests.support.scrape import Scrape
from tests.support.waiting import wait_for

LISTEN = (
    "import socket\n"
    "received = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
    "received.bind(('::', 9))\n"
    "print('listening', flush=True)\n"
    "while True: print(received.recv(100).decode(), flush=True)\n"
)
SEND = (
    "import socket, sys\n"
    "sending = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
    "sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)\n"
    "for text in sys.argv[2:]: sending.sendto(text.encode(), (sys.argv[1], 9))\n"
)
SPOOF = CHECKOUT / "topologies" / "spoof.py"
HELD = 20
METRICS = "127.0.0.1:9109"
SERVED = ("event=served", MOBILE_NODE)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as built:
        yield built


def kernel_state(lab: ProxyLab, name: str) -> set[str]:
    """Return all lines of what an anchor or gateway could leave in the kernel."""
    commands = ["ip -6 rule", "nft list ruleset", "ip -o link", "sysctl net.ipv6.conf.all.forwarding", "ip -6 address"]
    commands += [f"ip -6 route show table {table}" for table in ("main", "41", "42", "200", "201", "252", "253")]
    shown = "".join(lab.run(name, each, check=False) for each in commands)
    shown = re.sub(r"packets \d+ bytes \d+|^\d+: (?=\S+: <)", "", shown, flags=re.MULTILINE)
    return set(re.sub(r",M-DOWN|,LOWER_UP|NO-CARRIER,| state \w+|linkdown ", "", shown).splitlines())


# What somebody may do to the kernel: what both ends have, then what each has for itself.
BOTH = (
    "sysctl -qw net.ipv6.conf.all.forwarding=0",
    "nft flush ruleset",
    "ip link del hoaflow-out",
    "ip sr tunsrc set 2001:db8::bad",
    "ip -6 route flush table 41",
    "ip -6 route flush table 252",
    "ip -6 rule add pref 3 lookup local",
    "ip -6 rule flush",
    "ip -6 rule del pref 32766",
)
SABOTAGE = {
    "lma": (
        *BOTH,
        f"ip address del {LMA}/128 dev lo",
        "ip -6 route flush table 42",
        f"ip -6 route del unreachable {HOME_PREFIX}",
    ),
    "mag1": (
        *BOTH,
        "ip link del hoaflow-hold",
        "ip address del fe80::1/64 dev a0",
        "sysctl -qw net.ipv6.conf.a0.ignore_routes_with_linkdown=0",
        "ip -6 route flush table 200",
        "ip -6 route flush table 201",
        "ip -6 route flush table 253",
    ),
}


def route(lab: ProxyLab) -> str:
    """Return the anchor's route for the mobile node's prefix, as a bridge sees it."""
    return lab.run("lma", f"ip -6 route show table 252 {PREFIX} proto 16")


def accepted(lab: ProxyLab, gateway: str) -> int:
    """Return how many packets a gateway has taken from the tunnel."""
    counter = lab.run(gateway, "nft list counter ip6 hoaflow_mag accepted")
    return int(counter.split("packets ")[1].split()[0])


def test_a_mobile_node_moves_and_loses_nothing(lab: ProxyLab) -> None:
    lab.link("m1", "up")
    before = kernel_state(lab, "mag1")
    lab.link("m1", "down")
    anchor = lab.anchor("--heartbeat", "5")
    gateways = {number: lab.gateway(f"mag{number}", "--hold", "30") for number in (1, 2)}

    lab.attach(1)
    gateways[1].logged(*SERVED)
    wait_for("the mobile node has an address", lambda: ADDRESS in lab.run("mn", "ip -6 address"))
    assert (lab.ping("cn", ADDRESS), lab.ping("mn", CN)) == (3, 3)
    assert MAG_1 in route(lab)
    assert b" Serv_MAG_addr 2001:db8:2:0:0:0:0:2 local 2001:db8:98:0:0:0:0:1\n" in lab.console("pmip", name="lma")
    assert b" LMA_addr 2001:db8:98:0:0:0:0:1 local 2001:db8:2:0:0:0:0:2\n" in lab.console("pmip", name="mag1")
    assert lab.console("bc", name="lma") == b"mip6d> mip6d> \0"

    # It may not send from another's prefix, nor anybody else into the tunnel.
    lab.run("mn", f"ip address add {OTHER_PREFIX.replace('/64', 'bad/128')} dev m1 nodad")
    assert lab.ping("mn", CN, count=1, source=OTHER_PREFIX.replace("/64", "bad")) == 0
    assert "packets 1 " in lab.run("mag1", "nft list counter ip6 hoaflow_mag spoofed")
    forged = f"send --outer {LMA} {MAG_1} --inner {CN} {ADDRESS} --label forged"
    lab.run("mn", f"{sys.executable} {SPOOF} {forged}")
    assert "packets 2 " in lab.run("mag1", "nft list counter ip6 hoaflow_mag spoofed")
    lab.run("mn", f"ip address del {OTHER_PREFIX.replace('/64', 'bad/128')} dev m1")

    # Whatever somebody else does to the kernel is mended.
    for name, commands in SABOTAGE.items():
        declared = kernel_state(lab, name)
        for command in commands:
            lab.run(name, command, check=False)
        mended = partial(lambda name, declared: kernel_state(lab, name) == declared, name, declared)
        with contextlib.suppress(TimeoutError):
            wait_for("all is mended", mended)
        assert kernel_state(lab, name) == declared  # which shows the difference
    # A neighbour that could not be asked meanwhile is lost, until it asks for its router.
    wait_for("packets pass both ways", lambda: (lab.ping("cn", ADDRESS), lab.ping("mn", CN)) == (3, 3))

    # What is sent to it while it is between two links arrives on the next one, be it the same, in order.
    listener = lab.script("mn", LISTEN)
    listener.out.wait(lambda line: line == "listening")
    sent: list[str] = []
    place = 1
    for number in (2, 1, 1):
        since = len(gateways[place].log.lines)
        lab.link(f"m{place}", "down")
        gateways[place].logged("event=detached", MOBILE_NODE, since=since)
        sent += [f"{len(sent) + each}" for each in range(HELD)]
        lab.python("cn", SEND, ADDRESS, *sent[-HELD:])
        lab.link(f"m{number}", "up")
        listener.out.wait(partial(str.__eq__, sent[-1]))
        place = number
    assert listener.out.lines[1:] == sent
    # A router that does not know yet sends them back to the former gateway. They wait there from time to time, or their
    # hop limits would have ended them at once.
    lab.run("rt", f"ip sr tunsrc set {LMA}")
    lab.run("rt", f"ip -6 route add {ADDRESS}/128 encap seg6 mode encap.red segs {MAG_2} dev r2")
    since = accepted(lab, "mag2")
    lab.python("cn", SEND, ADDRESS, "returning")
    wait_for("it has been at the former gateway three times", lambda: accepted(lab, "mag2") >= since + 3)
    lab.run("rt", f"ip -6 route del {ADDRESS}/128")
    listener.out.wait(lambda line: line == "returning")

    gateways[1].logged("event=revoked", MOBILE_NODE, f"forwarded_packets={HELD}")
    gateways[1].logged("event=served", MOBILE_NODE, f"delivered_packets={HELD}")
    anchor.logged("event=revocation-acknowledged", "status=0")

    # Killed and started again, the anchor is told everything at once.
    anchor.stop(kill=True)
    assert lab.ping("cn", ADDRESS) == 3  # its kernel goes on
    anchor = lab.anchor()
    anchor.logged("event=binding-registered", MOBILE_NODE)
    assert lab.ping("cn", ADDRESS) == 3

    # A gateway that ends says so for all of its mobile nodes.
    assert gateways[1].stop() == 0
    anchor.logged("event=binding-removed", MOBILE_NODE, "reason=revoked")
    assert route(lab) == ""
    assert (gateways[2].stop(), anchor.stop()) == (0, 0)
    assert kernel_state(lab, "mag1") == before
    assert not any("hoaflow" in line for line in kernel_state(lab, "lma"))


def test_a_node_registers_leaves_and_returns_whoever_was_away(lab: ProxyLab) -> None:
    gateway = lab.gateway("mag1", "--heartbeat", "1", "--hold", "0.5")
    lab.attach(1)
    gateway.logged("event=peer", "state=unreachable", LMA)
    anchor = lab.anchor("--metrics", METRICS, "--heartbeat", "1")
    gateway.logged(*SERVED)
    assert lab.ping("cn", ADDRESS) == 3

    # What is too big for the way between gateway and anchor is reported to whoever sent it, on either side.
    for sender, receiver, link in (("mn", CN, "r9"), ("cn", ADDRESS, "r1")):
        lab.run("rt", f"ip link set {link} mtu 1400")
        shown = lab.run(sender, f"ping -M do -s 1352 -c 20 -i 0.1 -W 1 {receiver}", check=False)
        assert "mtu=1360" in shown, shown
        lab.run("rt", f"ip link set {link} mtu 1500")

    # A node that leaves for good is deregistered.
    lab.link("m1", "down")
    anchor.logged("event=binding-removed", "reason=deregistered")
    assert route(lab) == ""
    assert b" status TEMP" in lab.console("pmip", name="lma")
    gateway.logged("event=forgotten", "reason=deregistered")
    lab.link("m1", "up")
    gateway.logged(*SERVED, since=len(gateway.log.lines))
    gateway.stop(kill=True)
    # One that was killed and starts again takes over what it left. The mobile node has noticed nothing, solicits no
    # router and sends nothing: it is asked whether it is there. Another's entry is left, who has gone and is silent.
    lab.run("mag1", f"ip -6 neigh replace fe80::a02 lladdr {OTHER_MAC} dev a0 nud stale")
    gateway = lab.gateway("mag1", "--metrics", METRICS, "--lifetime", "8")
    gateway.logged(*SERVED)
    assert OTHER_NODE not in "".join(gateway.log.lines)
    assert (lab.ping("cn", ADDRESS), lab.ping("mn", CN)) == (3, 3)
    now = Scrape(lab.get("mag1", f"http://{METRICS}/metrics"))
    assert now("hoaflow_mag_mobile_nodes") == 1
    assert now("hoaflow_mag_binding_acknowledgements_total", status="0") >= 1
    assert now("hoaflow_mag_tunnel_packets_total") >= 6
    now = Scrape(lab.get("lma", f"http://{METRICS}/metrics"))
    assert (now("hoaflow_lma_bindings"), now("hoaflow_lma_unreachable_gateways")) == (1, 1)  # mag2 was never there
    assert lab.get("lma", f"http://{METRICS}/readyz") == "ok\n"
    # One update is for all from now on (RFC 6602).
    anchor.logged("event=binding-ack-sent", "group=", "status=0 lifetime=8")


def test_without_the_key_nobody_registers(lab: ProxyLab, tmp_path: Path) -> None:
    anchor = lab.anchor()
    other = tmp_path / "other.toml"
    other.touch(mode=0o600)
    other.write_text(f'["{LMA}"]\nspi = 256\nkey = "{"0" * 32}"\n')
    gateway = lab.gateway("mag1", "--keys", str(other))
    lab.attach(1)
    gateway.logged("event=attached", MOBILE_NODE)
    anchor.logged("reason=not_authenticated", "ProxyBindingUpdate")
    assert route(lab) == ""
    assert b"peer_addr" not in lab.console("pmip", name="lma")
