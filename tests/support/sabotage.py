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
from typing import TypeVar

from hoaflow.tunnel.namespace import in_namespace
from tests.support.mobility import CARE_OF_1, CN, HOME_ADDRESS, HOME_AGENT, HOME_PREFIX, TIMEOUT, Lab, Node
from tests.support.waiting import wait_for

T = TypeVar("T")

FORGED, METRICS, CONSOLE = "2001:db8:99::bad", "127.0.0.1:9109", ("127.0.0.1", 7777)
OPTIONS = ("--insecure", "--metrics", METRICS)

DECLARED = f"""
from hoaflow.home_agent.declaration import declaration
from hoaflow.home_agent.home_link import HomeLink
from hoaflow.home_agent.load import Load
from hoaflow.home_agent.settings import check, parser
from hoaflow.home_agent.tunnels import Tunnels
own = ["--home-agent", "{HOME_AGENT}", "--home-prefix", "{HOME_PREFIX}", "--home-link", "hl"]
policy = check(parser().parse_args([*own, *{OPTIONS!r}])).policy
link = HomeLink("hl", policy.home_agent)
for each in declaration(policy, Tunnels(policy.home_agent), link, Load(policy.home_agent), lambda: None):
    print(each)
"""
# Tunnel packets from the mobile node's care-of address with somebody else's home address inside, without end.
FORGER = (
    "import socket, time\n"
    "from scapy.layers.inet6 import IPv6, UDP\n"
    f"inner = IPv6(src='{FORGED}', dst='{CN}') / UDP(dport=9)\n"
    f"packet = bytes(IPv6(src='{CARE_OF_1}', dst='{HOME_AGENT}') / inner)\n"
    "raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
    "print('forging', flush=True)\n"
    "while True:\n"
    f"    raw.sendto(packet, ('{HOME_AGENT}', 0))\n"
    "    time.sleep(0.02)\n"
)
# Both planes have these.
COMMON: dict[str, Sequence[str]] = {
    "net.ipv6.conf.all.forwarding = 1": ["sysctl -qw net.ipv6.conf.all.forwarding=0"],
    "rule 32766 (IPv6) looks into table 254": ["ip -6 rule flush"],
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
    "net.ipv6.conf.hl.proxy_ndp = 1": ["sysctl -qw net.ipv6.conf.hl.proxy_ndp=0"],
    "link-local address on hl": ["ip -6 address flush dev hl", "ip -6 address flush dev hl scope link"],
    f"address {HOME_AGENT}/64 dev hl": [f"ip address del {HOME_AGENT}/64 dev hl"],
    "proxy entries on the home link": [
        f"ip -6 neigh del proxy {HOME_ADDRESS} dev hl",
        "ip -6 neigh add proxy 2001:db8:99::200 dev hl proto 16",
    ],
    "home link hl up": ["ip link set hl down"],
    "sockets on hl": ["ip link del hl"],
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
    """A registered mobile node, a host on the home link and a forger, and a home agent to be done things to."""

    def __init__(self, lab: Lab, plane: str, things: Mapping[str, Sequence[str]]) -> None:
        """`things`: what is done to the objects of the plane of that name."""
        self._lab, self._things = lab, COMMON | dict(things)
        declared = lab.python("ha", DECLARED).splitlines()
        assert sorted(declared) == sorted(self._things), "each declared object needs what is done to it, and no other"
        self._agent: Node = lab.home_agent(*OPTIONS)
        self._agent.logged(f"chosen={plane}")
        node = lab.mobile_node("--insecure", "--lifetime", "600")
        lab.link("m1", "up")
        node.event("registered", care_of_address=CARE_OF_1)
        lab.run("cn", "nft add table ip6 t")
        lab.run("cn", "nft add counter ip6 t forged")
        lab.run("cn", "nft add chain ip6 t in { type filter hook input priority 0 ; }")
        lab.run("cn", f"nft add rule ip6 t in ip6 saddr {FORGED} counter name forged")
        forger = lab.script("rt", FORGER)
        forger.out.wait(lambda line: line == "forging")

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
        if "link set hl down" in command or "link del hl" in command:
            self._home_link_back(command, since)
        self._agent.logged("event=mended", since=since)
        wait_for(f"ready after {command}", lambda: self._readiness() == "ok" or None)
        opened = any(text in command for text in OPENING)
        passed = [] if opened or self._forged() == forged else ["forged packets passed"]
        return passed + self._wrong()

    def _home_link_back(self, command: str, since: int) -> None:
        """An administrator's doing is not undone: the home agent says that it can't serve, until he undoes it."""
        self._agent.logged("event=not-mended", "home link hl", since=since)
        assert self._readiness().startswith("503 home link hl is ")
        assert self._within(_greeting) == b""
        if "del" in command:
            self._lab.run("ha", "ip link add hl type bridge mcast_snooping 0")
            for port in ("h0", "h1"):
                self._lab.run("ha", f"ip link set {port} master hl")
        self._lab.run("ha", "ip link set hl up")

    def _readiness(self) -> str:
        return self._within(_readiness)

    def _within(self, ask: Callable[[], T]) -> T:
        return in_namespace(self._lab.namespace("ha"), ask)

    def _wrong(self) -> list[str]:
        forged = self._forged()
        ways = (("cn", HOME_ADDRESS), ("hh", HOME_ADDRESS), ("mn", CN))
        deaf = [f"{name} to {to} is lost" for name, to in ways if not self._answered(name, to)]
        return deaf + ["forged packets pass"] * (self._forged() != forged)

    def _answered(self, name: str, to: str) -> bool:
        deadline = time.monotonic() + TIMEOUT  # neighbours may have to be asked again
        while time.monotonic() < deadline:
            if self._lab.ping(name, to, count=2) == 2:
                return True
        return False

    def _forged(self) -> int:
        return int(self._lab.run("cn", "nft list counter ip6 t forged").partition("packets ")[2].split()[0])


def _readiness() -> str:
    """What /readyz says, with the status before it where it is not 200."""
    try:
        with urllib.request.urlopen(f"http://{METRICS}/readyz", timeout=TIMEOUT) as answer:
            return str(answer.read().decode().strip())
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.code} {error.read().decode().strip()}"


def _greeting() -> bytes:
    """The first octet that the home agent's terminal sends."""
    with socket.create_connection(CONSOLE, TIMEOUT) as terminal:
        return terminal.recv(1)
