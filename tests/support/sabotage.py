# SPDX-License-Identifier: Apache-2.0
"""A home agent whose declared objects are taken away, changed and doubled, one by one, under traffic.

What is done to each object stands in a table by the object's own text: one that is declared and not in the table fails
the test, so nothing can be added without its sabotage.
"""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from hoaflow.home_agent.declaration import declaration
from hoaflow.home_agent.parts import open_parts
from hoaflow.home_agent.settings import check, parser
from hoaflow.tunnel.namespace import in_namespace
from tests.support.checkout import CHECKOUT
from tests.support.mobility import (
    CARE_OF_1,
    CN,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_PREFIX,
    TIMEOUT,
    UPLINK,
    UPLINK_HOP,
    Lab,
    Node,
)
from tests.support.waiting import wait_for

T = TypeVar("T")

FORGED, METRICS, CONSOLE = "2001:db8:99::bad", "127.0.0.1:9109", ("127.0.0.1", 7777)
NETWORK = "2001:db8:aa:1::/64"
OPTIONS = ("--insecure", "--metrics", METRICS, "--mobile-networks", str(CHECKOUT / "tests/data/mobile-networks.toml"))
ANSWER = "bytes from"

# Without end: tunnel packets from the mobile node's care-of address with somebody else's home address inside.
FORGER = (
    "import socket, sys, time\n"
    "raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
    "while True:\n"
    f"    raw.sendto(bytes.fromhex(sys.argv[1]), ('{HOME_AGENT}', 0))\n"
    "    print('sent', flush=True)\n"
    "    time.sleep(0.02)\n"
)
# What arrives of what is inside.
WITNESS = (
    "import socket\n"
    "received = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
    "received.bind(('::', 9))\n"
    "print('listening', flush=True)\n"
    "while True: print(received.recvfrom(2000)[1][0], flush=True)\n"
)
# Both planes have these.
COMMON: dict[str, Sequence[str]] = {
    "net.ipv6.conf.all.forwarding = 1": [
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
        "nft delete table inet hoaflow_former_settings",
    ],
    "rule 32766 (IPv6) looks into table 254": ["ip -6 rule flush"],
    "unreachable IPv6 prefixes of mobile nodes": [
        f"ip -6 route del unreachable {HOME_PREFIX}",
        f"ip -6 route del unreachable {NETWORK}",
    ],
    "the check against spoofing set up": [
        "nft flush ruleset",
        "nft delete table ip6 hoaflow",
        "nft flush chain ip6 hoaflow check_41",
        "nft insert rule ip6 hoaflow check_41 meta mark set 41 accept",
        "nft add chain ip6 hoaflow more { type filter hook prerouting priority -400 ; policy drop ; }",
    ],
    "accepted pairs of care-of and home address": [
        "nft flush set ip6 hoaflow pairs_41",
        f"nft add element ip6 hoaflow pairs_41 {{ {CARE_OF_1} . 0x20010db8009900000000000000000bad }}",
    ],
    "the guard of Mobile IPv6 packets set up": [
        "nft delete table ip6 hoaflow_ha",
        "nft add rule ip6 hoaflow_ha input drop",
    ],
    "the counter of the tunnels' load set up": [
        "nft delete table ip6 hoaflow_ha_load",
        "nft add rule ip6 hoaflow_ha_load downlink drop",
    ],
    "net.ipv6.conf.hl.forwarding = 1": ["sysctl -qw net.ipv6.conf.hl.forwarding=0"],
    "net.ipv6.conf.all.proxy_ndp = 1": ["sysctl -qw net.ipv6.conf.all.proxy_ndp=0"],
    "net.ipv6.conf.hl.disable_ipv6 = 0": ["sysctl -qw net.ipv6.conf.hl.disable_ipv6=1"],
    "link-local address on hl": ["ip -6 address flush dev hl", "ip -6 address flush dev hl scope link"],
    f"address {HOME_AGENT}/64 dev hl": [f"ip address del {HOME_AGENT}/64 dev hl"],
    "route fe80::/64 dev hl": ["ip -6 route del fe80::/64 dev hl"],
    f"route {HOME_PREFIX} dev hl": [
        f"ip -6 route del {HOME_PREFIX} dev hl",
        f"ip -6 route add {HOME_PREFIX} dev u0 metric 1",
    ],
    "routes to mobile networks dev hl": [
        f"ip -6 route del {NETWORK}",
        f"ip -6 route replace {NETWORK} via {UPLINK_HOP} proto 105",
    ],
    "proxy entries on the home link": [
        f"ip -6 neigh del proxy {HOME_ADDRESS} dev hl",
        "ip -6 neigh add proxy 2001:db8:99::200 dev hl proto 16",
    ],
    "mobile nodes' addresses defended": ["nft add table ip6 hoaflow_ha_drain"],
    "MAC address of hl announced": ["ip link set hl address 02:00:00:00:00:07"],
    "home link hl up": ["ip link set hl down"],
    "sockets on hl": ["ip link del hl"],
    "routes to care-of addresses": ["ip link set u0 down", "ip -6 route flush table main"],
}
UPLINK_BACK = ("ip -6 route replace fe80::/64 dev u0", f"ip -6 route add default via {UPLINK_HOP} dev u0")
# What the home agent does not undo, as it is an administrator's doing: what it says, and how he undoes it.
HOME_LINK_DOWN, UPLINK_DOWN = "home link hl is ", "no route works for 1 of 1 care-of addresses"
ADMINISTRATORS: dict[str, tuple[str, Sequence[str]]] = {
    "ip link set hl down": (HOME_LINK_DOWN, ["ip link set hl up"]),
    "ip link del hl": (
        HOME_LINK_DOWN,
        [
            "ip link add hl type bridge mcast_snooping 0",
            *(f"ip link set {port} master hl" for port in ("h0", "h1")),
            "ip link set hl up",
        ],
    ),
    "ip link set u0 down": (
        UPLINK_DOWN,
        ["ip link set u0 up", f"ip address replace {UPLINK}/64 dev u0 nodad", *UPLINK_BACK],
    ),
    "sysctl -qw net.ipv4.conf.u0.rp_filter=1": ("rp_filter of u0 is 1", ["sysctl -qw net.ipv4.conf.u0.rp_filter=0"]),
    "ip -6 route flush table main": (UPLINK_DOWN, [f"ip -6 route add {UPLINK}/64 dev u0", *UPLINK_BACK]),
}
# In the tables of both planes.
DOUBLE = f"ip -6 route add {HOME_ADDRESS} dev hl proto static metric 1"
LOCAL_RULES = (
    "ip -6 rule add pref 0 lookup local",
    "ip -6 rule add pref 3 lookup local",
    "ip -6 rule del pref 10",
)
# What a forged packet passes by its nature until it is mended: it is told to.
OPENING = ("meta mark set 41 accept", "nft add element")


class Sabotage:
    """A registered mobile node, a host on the home link and a forger, and a home agent to be done things to.

    What is seen of it is seen all the time, by processes that are started once: under emulation to start one takes
    most of the time.
    """

    def __init__(
        self,
        lab: Lab,
        plane: str,
        things: Mapping[str, Sequence[str]],
        options: Sequence[str] = (),
        node_options: Sequence[str] = (),
    ) -> None:
        """`things`: what is done to the objects of the plane of that name, as home agent and mobile node have options.

        What is observed is IPv6.
        """
        self._lab, self._things = lab, COMMON | dict(things)
        declared = in_namespace(lab.namespace("ha"), lambda: _declared(options))
        assert sorted(declared) == sorted(self._things), "each declared object needs what is done to it, and no other"
        self._witness = lab.script("cn", WITNESS)
        self._agent: Node = lab.start_home_agent(*OPTIONS, *options)
        node = lab.mobile_node("--insecure", "--lifetime", "600", *node_options)
        self._agent.logged("event=started")
        self._agent.logged(f"chosen={plane}")
        lab.link("m1", "up")
        node.event("registered", care_of_address=CARE_OF_1)
        self._witness.out.wait(lambda line: line == "listening")
        forged = IPv6(src=CARE_OF_1, dst=HOME_AGENT) / IPv6(src=FORGED, dst=CN) / UDP(dport=9)
        self._forger = lab.script("rt", FORGER, bytes(forged).hex())
        ways = (("cn", HOME_ADDRESS), ("hh", HOME_ADDRESS), ("mn", CN), ("mn", HOME_AGENT))
        self._pings = {f"{name} to {to}": lab.pinging(name, to) for name, to in ways}

    def run(self) -> list[str]:
        """Do everything to every object; returns what was not right afterwards."""
        assert self._wrong() == []
        return [
            f"{what}: {command}: {wrong}"
            for what, commands in self._things.items()
            for command in commands
            for wrong in self._do(command)
        ]

    def _do(self, command: str) -> list[str]:
        since, forged = len(self._agent.log.lines), self._forged()
        self._lab.run("ha", command)
        if command in ADMINISTRATORS:
            self._undone(*ADMINISTRATORS[command], since)
        else:
            self._agent.logged("event=mended", since=since)
        wait_for(f"ready after {command}", lambda: self._readiness() == "ok" or None)
        opened = any(text in command for text in OPENING)
        passed = [] if opened or self._forged() == forged else ["forged packets passed"]
        return passed + self._wrong()

    def _undone(self, said: str, commands: Sequence[str], since: int) -> None:
        """Check that the home agent says it can't serve, until the administrator undoes the change."""
        self._agent.logged("event=not-mended", said, since=since)
        assert said in self._readiness()
        assert self._readiness().startswith("503 ")
        with pytest.raises(ConnectionRefusedError):  # as if no process were there: a bridge announces ha-down
            self._within(greeting)
        for command in commands:
            self._lab.run("ha", command)
        self._agent.logged("event=as-declared-again", since=since)

    def _readiness(self) -> str:
        return self._within(readiness)

    def _within(self, ask: Callable[[], T]) -> T:
        return in_namespace(self._lab.namespace("ha"), ask)

    def _wrong(self) -> list[str]:
        forged, sent = self._forged(), len(self._forger.out.lines)
        deaf = [f"{way} is lost" for way, ping in self._pings.items() if not _answered(ping)]
        wait_for("further forged packets", lambda: len(self._forger.out.lines) >= sent + 5 or None)
        return deaf + ["forged packets pass"] * (self._forged() != forged)

    def _forged(self) -> int:
        return self._witness.out.lines.count(FORGED)


def _declared(options: Sequence[str]) -> list[str]:
    """Return what a home agent declares in this namespace, with these options besides OPTIONS."""
    own = ["--home-agent", HOME_AGENT, "--home-prefix", HOME_PREFIX, "--home-link", "hl"]
    settings = check(parser().parse_args([*own, *OPTIONS, *options]))
    with ExitStack() as opened:
        return [str(each) for each in declaration(settings.policy, open_parts(settings, opened), lambda: None)]


def _answered(ping: Node) -> bool:
    """Tell whether three packets in a row are answered from now on, within the time that neighbours may need."""
    since, deadline = len(ping.out.lines), time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        numbers = [int(line.partition("icmp_seq=")[2].split()[0]) for line in ping.out.lines[since:] if ANSWER in line]
        if any(n + 1 in numbers and n + 2 in numbers for n in numbers):
            return True
        time.sleep(0.02)
    return False


def readiness() -> str:
    """Return what /readyz says, preceded by the status if that is not 200."""
    return probe("readyz")


def probe(path: str) -> str:
    """Return this namespace's home agent's answer to a probe, preceded by the status if that is not 200."""
    try:
        with urllib.request.urlopen(f"http://{METRICS}/{path}", timeout=TIMEOUT) as answer:
            return str(answer.read().decode().strip())
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.code} {error.read().decode().strip()}"


def greeting(timeout: float = TIMEOUT) -> bytes:
    """Return the first octet that the terminal of this namespace's home agent sends."""
    with socket.create_connection(CONSOLE, timeout) as terminal:
        return terminal.recv(1)
