# SPDX-License-Identifier: Apache-2.0
"""A router with correspondent node and mobile node on its bridge, its kernel, and a home agent.

    cn ── 1 ┐            ┌ 2 ── lan  rt (the router's kernel)  home ── home agent
    mn ── 4 ┘   bridge   └ 5 ── acc

Each node is a network namespace. The bridge joins cn with lan and mn with acc, as two links would; flows
steer what belongs into the tunnels to the endpoint, as the controller will.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from controller.core import pipeline
from controller.core.backends import RouteBackend
from controller.core.bindings import Binding
from controller.core.flow_sets import flows_of, gates_of, guards_of
from controller.core.home_agents import HomeAgent, Status
from hoaflow.addresses import parse_address, parse_prefix
from hoaflow.router.endpoint import TOUT, Endpoint
from hoaflow.router.macs import kernel_macs
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.tunnel.local_decapsulation import decapsulate_local
from hoaflow.tunnel.seg6 import Seg6Routes
from tests.support.checkout import CHECKOUT
from tests.support.environment import Environment
from tests.support.flow_text import ofctl_text
from tests.support.frames import Tap, packet_socket
from tests.support.ovs import Ovs
from tests.support.ping import ping
from topologies.waiting import patient

TIMEOUT = patient(30)  # seconds
# `hoaflow-router` whose agent compares nothing unless something makes itself heard.
AGENT_BY_EVENTS = """
import sys
from hoaflow.router import agent, cli, firewall
agent.COMPARE = agent.RESYNC = firewall.TRY_SECONDS = 3600.0
sys.exit(cli.main(sys.argv[1:]))
"""
DPID = 0xABC
HA_2 = "2001:db8:88::1"
HA, HOA, COA, CN, ROUTER = "2001:db8:99::1", "2001:db8:99::100", "2001:db8:2::2", "2001:db8:1::2", "2001:db8:1::1"
COA_2, OTHER_HOA = "2001:db8:2::3", "2001:db8:99::200"
HOA4, OTHER_HOA4, MNP4_HOST, CN4, ROUTER4 = "10.99.0.100", "10.99.0.200", "10.99.1.7", "10.1.0.2", "10.1.0.1"
MNP4, HOME_PREFIXES = "10.99.1.0/24", ("2001:db8:99::/64", "10.99.0.0/16")
MN_TABLE, MN_IPV4_TABLE, MN_UPLINK_RULE, MN_IPV4_RULE = 77, 78, 50, 4
# Nodes with an address on one of their links, which answers.
LINKS = (
    *(("cn", ROUTER), ("cn", ROUTER4), ("rt", CN), ("rt", CN4)),
    *(("mn", "2001:db8:2::1"), ("rt", COA), ("rt", COA_2)),
    *(("ha", "2001:db8:10::1"), ("ha", "10.10.0.1"), ("rt", "2001:db8:10::2"), ("rt", "10.10.0.2")),
)
# Link-local addresses are given by hand: nothing is tentative then, nothing changes by itself.
SETTINGS = (
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv6.conf.default.addr_gen_mode=1",
    "net.ipv4.conf.all.forwarding=1",
    # as strict as a router may be configured
    "net.ipv4.conf.all.rp_filter=1",
)


def sh(*command: str, check: bool = True, stdin: str = "") -> str:
    """Run a command; returns what it prints."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=CHECKOUT
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait until `condition` returns something true, and return it. Raises TimeoutError."""
    deadline = time.monotonic() + patient(seconds)
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise TimeoutError(f"not within {patient(seconds):g} s: {what}")


class RouterLab(Environment):
    """The network of this module's docstring. A context manager."""

    def __init__(self, ovs: Ovs) -> None:
        self.ovs = ovs
        # the names of an endpoint follow from the bridge's: another one in every run
        self.bridge = "b" + ovs.netns.removeprefix("hf-ovs-")
        self.names = {node: f"{ovs.netns}-{node}" for node in ("cn", "mn", "rt", "ha")}
        self._steered: int | None = None  # the number of the endpoint's port, to which flows lead

    def stop(self) -> None:
        """Remove everything, endpoints included. Harmless when repeated."""
        # the switch lets go of its ports before their links vanish: it would log errors
        with contextlib.suppress(RuntimeError):
            self.router("teardown", "--bridge", self.bridge)
        with contextlib.suppress(RuntimeError):
            self.ovs.vsctl("--if-exists", "del-br", self.bridge)
        for name in self.names.values():
            if os.path.exists(f"/run/netns/{name}"):
                sh("ip", "netns", "del", name)

    def ip(self, node: str, *arguments: str) -> str:
        """Run `ip ARGUMENTS` in a node."""
        return sh("ip", "-n", self.names[node], *arguments)

    def run(self, node: str, *command: str, check: bool = True) -> str:
        """Run a command in a node."""
        return sh("ip", "netns", "exec", self.names[node], *command, check=check)

    def ping(self, node: str, target: str, *options: str) -> str:
        """Ping three times and return what ping says."""
        return self.run(node, *ping(3, 1, *options, target), check=False)

    @contextlib.contextmanager
    def sink(self, node: str, address: str, port: int) -> Iterator[None]:
        """Provide a TCP server in a node that answers each connection's end with the number of octets it took."""
        program = (
            "import socket, sys\n"
            f"server = socket.create_server(('{address}', {port}), family=socket.AF_INET{'6' * (':' in address)})\n"
            "print('listening', flush=True)\n"
            "while True:\n"
            "    connection, total = server.accept()[0], 0\n"
            "    while part := connection.recv(65536): total += len(part)\n"
            "    connection.sendall(str(total).encode())\n"
            "    connection.close()\n"
        )
        command = ["ip", "netns", "exec", self.names[node], sys.executable, "-c", program]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == b"listening\n"
                yield
            finally:
                server.kill()

    def router_command(self, *arguments: str) -> list[str]:
        """Return the command line of `hoaflow-router ARGUMENTS`, in Open vSwitch's namespace."""
        return self.ovs.command(sys.executable, "-m", "hoaflow.router", *arguments, f"--db=unix:{self.ovs.database}")

    def router(self, *arguments: str) -> str:
        """Run `hoaflow-router ARGUMENTS` and return its output. Raises RuntimeError with it when it fails."""
        return sh(*self.router_command(*arguments))

    def mac(self, node: str, interface: str) -> str:
        """Return the MAC address of an interface."""
        return self.run(node, "cat", f"/sys/class/net/{interface}/address").strip()

    def inject(self, node: str, interface: str, frame: bytes, count: int = 1) -> None:
        """Send an Ethernet frame out of an interface, as it is."""
        with packet_socket(self.names[node], interface) as sender:
            for _ in range(count):
                sender.send(frame)

    @contextlib.contextmanager
    def tap(self, node: str, interface: str) -> Iterator[Tap]:
        """Listen to an interface from the moment in which the context is entered."""
        with packet_socket(self.names[node], interface) as listener:
            yield Tap(listener)

    def setup(self, *options: str, home_agent: str = HA) -> str:
        """Run `hoaflow-router setup` for the bridge and the kernel of this lab."""
        kernel = ["--kernel-namespace", self.names["rt"]]
        return self.router("setup", "--bridge", self.bridge, "--home-agent", home_agent, *kernel, *options)

    def endpoint(self, home_agent: str = HA) -> Endpoint:
        """Return the endpoint that `setup` makes, for its names."""
        return Endpoint(self.bridge, home_agent, self.names["rt"])

    def status(self) -> dict[str, Any]:
        """Run `hoaflow-router status --json`, whatever its exit status."""
        done = subprocess.run(
            self.router_command("status", "--bridge", self.bridge, "--json"),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            cwd=CHECKOUT,
        )
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def steer(
        self,
        address: str = HA,
        homes: Sequence[str] = (HOA, HOA4, MNP4),
        care_of_addresses: Sequence[str] = (COA, COA_2),
    ) -> None:
        """Install the controller's flows of home addresses, each at one care-of address and, until now, at another."""
        endpoint = self.endpoint(address)
        number = Ovsdb(f"unix:{self.ovs.database}").port_state(endpoint.port).number
        assert number is not None
        backend = RouteBackend(number, endpoint.mac)
        macs = kernel_macs(endpoint.namespace, TOUT)
        home_agent = HomeAgent(parse_address(address), tuple(map(parse_prefix, HOME_PREFIXES)), 10, 0.0, Status.UP, 0.0)
        flows = [*pipeline.miss_flows(None), *guards_of(home_agent, backend), *gates_of(home_agent, macs, backend)]
        for home_address, care_of_address in itertools.product(homes, care_of_addresses):
            binding = Binding(parse_prefix(home_address), parse_address(care_of_address), home_agent.address)
            flows += flows_of(binding, backend).all()
        file = self.ovs.directory / "flows"
        file.write_text(ofctl_text({flow.key: flow for flow in flows}.values()))
        self.ovs.ofctl("--bundle", "add-flows", self.bridge, str(file))

    def goes_direct(self) -> bool:
        """Tell whether HOA and HOA4 reach and are reached directly: the home agent eats what comes to it.

        The flows follow when the switch has the endpoint's port under another number, as the controller's would.
        """
        number = Ovsdb(f"unix:{self.ovs.database}").port_state(self.endpoint().port).number
        if number is None:
            return False
        if number != self._steered:
            self.steer()
            self._steered = number
        return self._answered(("cn", HOA), ("cn", HOA4), ("mn", "-I", HOA, CN))

    def connect(self) -> None:
        """Put the nodes on the bridge, each with its number, and join them."""
        for number in (1, 2, 4, 5):
            request = ["set", "interface", f"s{number}", f"ofport_request={number}"]
            self.ovs.vsctl("add-port", self.bridge, f"s{number}", "--", *request)
        self.join()

    def join(self) -> None:
        """Join the nodes on the bridge, as two links would."""
        for one, other in ((1, 2), (4, 5)):
            for entry, exit_ in ((one, other), (other, one)):
                self.ovs.ofctl("add-flow", self.bridge, f"priority=1,in_port={entry},actions={exit_}")
        self._steered = None

    def roam(self, care_of_address: str) -> None:
        """Let the mobile node send and take its tunnel by this care-of address."""
        decapsulate_local(self.names["mn"], care_of_address, "m0", lookup_table=255)
        with Seg6Routes(self.names["mn"]) as routes:
            routes.set_source(care_of_address)
            for everything in ("::/0", "0.0.0.0/0"):
                routes.encapsulate(everything, HA, via="2001:db8:2::1", dev="m0", table=MN_TABLE)
            # 0.0.0.0: to the address that the packet is for
            routes.decapsulate_ipv4(care_of_address, "0.0.0.0", "m0", MN_IPV4_TABLE)
        rule = f"to {care_of_address} ipproto 4 lookup {MN_IPV4_TABLE} pref {MN_IPV4_RULE}"
        self.ip("mn", "-6", "rule", "add", *rule.split())

    def snapshot(self) -> dict[str, object]:
        """All that setup could leave behind, in Open vSwitch's namespace and the router's kernel."""
        inside = {"ovs": self.ovs.netns, "rt": self.names["rt"]}
        taken: dict[str, object] = {
            # grep ends with 2 for what only writes
            f"{kind} {node}": sh("ip", "netns", "exec", name, *command, check=kind != "sysctl")
            for node, name in inside.items()
            for kind, command in {
                "links": ["ip", "-br", "link"],
                "addresses": ["ip", "-br", "-6", "address"],
                "routes": ["ip", "-6", "route", "show", "table", "all"],
                "rules": ["ip", "-6", "rule"],
                "IPv4": ["ip", "-4", "route", "show", "table", "all"],
                "IPv4 rules": ["ip", "-4", "rule"],
                "nft": ["nft", "list", "ruleset"],
                "sysctl": [
                    *["grep", "-rs", "."],
                    *(f"/proc/sys/net/{ip}/conf/{which}" for ip in ("ipv6", "ipv4") for which in ("all", "default")),
                ],
            }.items()
        }
        # of this lab only: others may run at the same time
        ours = {self.endpoint(home_agent).namespace for home_agent in (HA, HA_2)}
        taken["namespaces"] = sorted(ours & set(os.listdir("/run/netns")))
        taken["database"] = self.ovs.vsctl("show") + self.ovs.vsctl("get", "Open_vSwitch", ".", "external_ids")
        return taken

    def _start(self) -> None:
        self.ovs.run("sysctl", "-qw", "net.ipv6.conf.default.addr_gen_mode=1")
        self.ovs.add_bridge(self.bridge, DPID)
        for name in self.names.values():
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
            sh("ip", "netns", "exec", name, "sysctl", "-qw", *SETTINGS)
        for number, node, interface in (
            (1, "cn", "c0"),
            (2, "rt", "lan"),
            (4, "mn", "m0"),
            (5, "rt", "acc"),
        ):
            self._port(number, node, interface)
        home = f"ip link add home netns {self.names['rt']} type veth peer name h0 netns {self.names['ha']}"
        sh(*home.split())
        for node, interface in (("rt", "home"), ("ha", "h0")):
            self.ip(node, "link", "set", interface, "up")
        for node, interface, address in (
            ("cn", "c0", f"{CN}/64"),
            ("rt", "lan", f"{ROUTER}/64"),
            ("rt", "acc", "2001:db8:2::1/64"),
            ("rt", "home", "2001:db8:10::1/64"),
            ("ha", "h0", "2001:db8:10::2/64"),
            ("mn", "m0", f"{COA}/64"),
            ("mn", "m0", f"{COA_2}/64"),
            ("mn", "lo", f"{HOA}/128"),
            ("mn", "lo", f"{OTHER_HOA}/128"),
            ("cn", "c0", "fe80::1/64"),
            ("rt", "lan", "fe80::2/64"),
            ("mn", "m0", "fe80::4/64"),
            ("rt", "acc", "fe80::5/64"),
            ("rt", "home", "fe80::6/64"),
            ("ha", "h0", "fe80::7/64"),
        ):
            self.ip(node, "-6", "address", "add", address, "dev", interface, "nodad")
        for node, interface, address in (
            ("cn", "c0", f"{CN4}/24"),
            ("rt", "lan", f"{ROUTER4}/24"),
            ("rt", "home", "10.10.0.1/24"),
            ("ha", "h0", "10.10.0.2/24"),
            ("mn", "lo", f"{HOA4}/32"),
            ("mn", "lo", f"{OTHER_HOA4}/32"),
            ("mn", "lo", f"{MNP4_HOST}/32"),
        ):
            self.ip(node, "address", "add", address, "dev", interface)
        for node, prefix, via in (("cn", "default", ROUTER4), ("rt", "10.99.0.0/16", "10.10.0.2")):
            self.ip(node, "route", "add", prefix, "via", via)
        for node, prefix, via in (
            ("cn", "default", ROUTER),
            ("mn", "default", "2001:db8:2::1"),
            ("ha", "default", "2001:db8:10::1"),
            ("rt", "2001:db8:99::/64", "2001:db8:10::2"),
        ):
            self.ip(node, "-6", "route", "add", prefix, "via", via)
        self.ip("ha", "-6", "route", "add", "blackhole", "2001:db8:99::/64")
        for home_address in (HOA, OTHER_HOA, HOA4, OTHER_HOA4, MNP4_HOST):
            rule = f"from {home_address} lookup {MN_TABLE} pref {MN_UPLINK_RULE}"
            self.ip("mn", "-6" if ":" in home_address else "-4", "rule", "add", *rule.split())
        self.connect()
        self.roam(COA)
        # Tests count packets: none of theirs is to be the first of a link, which waits for a neighbour's address.
        until(lambda: self._answered(*LINKS), "neighbours answer on each link")

    def _answered(self, *pings: tuple[str, ...]) -> bool:
        """Tell whether one echo request each is answered, sent at the same time: node and arguments of ping."""
        running = [
            subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.names[node]}", "ping", "-n", "-c1", "-W1", *arguments],
                stdout=subprocess.DEVNULL,
            )
            for node, *arguments in pings
        ]
        return [ping.wait(TIMEOUT) for ping in running] == [0] * len(pings)

    def _port(self, number: int, node: str, interface: str) -> None:
        port = f"s{number}"
        self.ovs.run(*f"ip link add {port} type veth peer name {interface}".split(), "netns", self.names[node])
        self.ovs.run("ip", "link", "set", port, "up")
        self.ip(node, "link", "set", interface, "up")
        off = ["tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"]
        self.ovs.run("ethtool", "-K", port, *off)
        self.run(node, "ethtool", "-K", interface, *off)
