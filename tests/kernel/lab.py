# SPDX-License-Identifier: Apache-2.0
"""A router with the `flow` backend, and around it what Mobile IPv6 needs, with the kernel's own ip6tnl devices.

    cn ── 1 ┐  bridge br0 ┌ LOCAL ── the router's kernel ── home agent
    mn ── 2 ┘             │          (Open vSwitch's namespace)

Correspondent node and mobile node are on links of the one bridge, in different prefixes, so all between them passes
the router's kernel. Home agent and mobile node have their tunnel set as UMIP sets it: local = care-of address,
remote = home agent on the mobile node, the reverse on the home agent. It carries IPv4, too (RFC 5555). By IPv4, they
have another home agent's tunnel (RFC 5944), with the kernel's ipip devices. Offloads of all links are on. The flows are
those that the controller makes, put by hand.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from controller.core import pipeline
from controller.core.backends import Backend, FlowBackend, RouteBackend
from controller.core.bindings import Binding
from controller.core.flow_sets import flows_of, gates_of, guards_of
from controller.core.flows import Normal
from controller.core.home_agents import HomeAgent, Status
from hoaflow.addresses import parse_address, parse_prefix
from hoaflow.router.cli import main
from hoaflow.router.macs import kernel_macs
from hoaflow.tunnel.namespace import in_namespace
from tests.support.checkout import CHECKOUT
from tests.support.environment import Environment
from tests.support.flow_text import TABLE_NUMBERS, ofctl_text
from tests.support.ovs import Ovs
from tests.support.ping import ping
from tests.support.router_lab import CN4, HOA4, ROUTER4, sh, until

BRIDGE = "br0"
DPID = 0xF10
HA, HOA, OTHER_HOA = "2001:db8:99::1", "2001:db8:99::100", "2001:db8:99::200"
HOME_PREFIXES = ("2001:db8:99::/64", "10.99.0.0/24")
COA, COA_2, STRANGER = "2001:db8:2::2", "2001:db8:2::3", "2001:db8:2::66"
CN = "2001:db8:1::2"
ROUTER, HA_HOP, HA_HOP4 = "2001:db8:1::1", "2001:db8:10::2", "10.10.0.2"
# By IPv4.
HA4, COA4, ACCESS4, HOME_PREFIX4 = "10.98.0.1", "10.2.0.2", "10.2.0.1", "10.98.0.0/24"
HA4_HOA, HA4_OTHER_HOA = "10.98.0.100", "10.98.0.200"
SETTINGS = (
    "net.ipv4.conf.all.forwarding=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.all.accept_dad=0",
)
TABLE, TABLE4 = "77", "78"
TRANSFER = [sys.executable, str(Path(__file__).with_name("transfer.py"))]
TIMEOUT = 120  # seconds, for a transfer; the receiver of a datagram waits as long
PORTS = {"cn": 1, "mn": 2}


class CommandFailed(Exception):
    """`hoaflow-router` ended with another status than 0; the message is what it said on stderr."""


class FlowLab(Environment):
    """The network of this module's docstring. A context manager."""

    nodes: tuple[str, ...] = ("cn", "mn", "ha")

    def __init__(self, ovs: Ovs) -> None:
        self.ovs = ovs
        self._facts: dict[str, Any] | None = None
        self._backend: Backend | None = None
        self._flows: str | None = None  # all that there are, if that is known
        self.names = {node: f"{ovs.netns}-{node}" for node in self.nodes} | {"rt": ovs.netns}

    def _start(self) -> None:
        self._build()
        for node in self.names:
            until(lambda: self._is_ready(node), f"link-local addresses on the links of {node}")  # noqa: B023

    def stop(self) -> None:
        """Remove everything. Harmless when repeated."""
        with contextlib.suppress(RuntimeError):
            self.ovs.vsctl("--if-exists", "del-br", BRIDGE)
        for node in self.nodes:
            if os.path.exists(f"/run/netns/{self.names[node]}"):
                sh("ip", "netns", "del", self.names[node])

    def ip(self, node: str, *arguments: str) -> str:
        """Run `ip ARGUMENTS` in a node."""
        return sh("ip", "-n", self.names[node], *arguments)

    def ip_batch(self, node: str, *lines: str) -> None:
        """Run `ip LINE` in a node, for each of them: one process, as starting one takes long under emulation."""
        sh("ip", "-n", self.names[node], "-batch", "-", stdin="\n".join(lines))

    def mac(self, device: str) -> str:
        """Return the MAC address of a device of the router."""
        return str(json.loads(self.ip("rt", "-json", "link", "show", device))[0]["address"])

    def enter(self, node: str) -> list[str]:
        """Return the start of a command line that runs in a node."""
        return ["nsenter", f"--net=/run/netns/{self.names[node]}"]

    def run(self, node: str, *command: str, check: bool = True) -> str:
        """Run a command in a node and return its output."""
        return sh(*self.enter(node), *command, check=check)

    def start(self, node: str, *command: str) -> subprocess.Popen[str]:
        """Start a command in a node; its output is piped."""
        return subprocess.Popen([*self.enter(node), *command], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)

    def stream(self, sender: str, receiver: str, source: str, target: str, octets: int) -> float:
        """Send that many octets by TCP between two nodes' addresses, and see that all arrive; returns the seconds."""
        with self._receiving("tcp", receiver, target) as process:
            self._send("tcp", sender, source, target, octets)
            received, seconds = process.communicate(timeout=TIMEOUT)[0].split()
        assert int(received) == octets
        return float(seconds)

    def datagram(self, sender: str, receiver: str, source: str, target: str, octets: int) -> None:
        """Send one of that many octets by UDP, and see that all arrive: the first may only teach the path's MTU."""
        with self._receiving("udp", receiver, target) as process:
            while process.poll() is None:
                self._send("udp", sender, source, target, octets)
            assert process.stdout is not None
            assert int(process.stdout.read()) == octets

    @contextlib.contextmanager
    def _receiving(self, protocol: str, node: str, address: str) -> Iterator[subprocess.Popen[str]]:
        with self.start(node, *TRANSFER, f"{protocol}-receive", address) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield process
            finally:
                process.kill()

    def _send(self, protocol: str, node: str, source: str, target: str, octets: int) -> None:
        with self.start(node, *TRANSFER, f"{protocol}-send", source, target, str(octets)) as process:
            try:
                assert process.wait(TIMEOUT) == 0
            finally:
                process.kill()

    def ping(self, node: str, target: str, *options: str) -> str:
        """Ping three times and return what ping says."""
        return self.run(node, *ping(3, 2, *options, target), check=False)

    def router(self, *arguments: str) -> str:
        """Run `hoaflow-router ARGUMENTS` on the router and return what it prints. Raises CommandFailed."""
        status, output, errors = self.router_status(*arguments)
        if status:
            raise CommandFailed(errors + output)
        return output

    def router_status(self, *arguments: str) -> tuple[int, str, str]:
        """Run `hoaflow-router`, and return its exit status, standard output and standard error."""
        output, errors = io.StringIO(), io.StringIO()
        argv = [*arguments, f"--db=unix:{self.ovs.database}"]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = in_namespace(self.names["rt"], lambda: main(argv))
        return status, output.getvalue(), errors.getvalue()

    def setup(self, *options: str) -> str:
        """Run `hoaflow-router setup` for the bridge."""
        self._facts = self._backend = None
        return self.router("setup", "--bridge", BRIDGE, *options)

    def status(self) -> dict[str, Any]:
        """Run `hoaflow-router status --json`, whatever its exit status."""
        found: dict[str, Any] = json.loads(self.router_status("status", "--bridge", BRIDGE, "--json")[1])
        return found

    def doctor(self) -> dict[str, dict[str, str]]:
        """Run `hoaflow-router doctor --json`, and return the findings by what was checked."""
        found = json.loads(self.router_status("doctor", "--bridge", BRIDGE, "--json")[1])
        return {finding["check"]: finding for finding in found["findings"]}

    def snapshot(self) -> dict[str, object]:
        """All that setup could leave behind: links, tc, addresses, rules, settings, and Open vSwitch's database."""
        commands = {
            "links": "ip -br link",
            "qdiscs": "tc qdisc show",
            "addresses": "ip -br address",
            "namespaces": "ls /run/netns",
            "routes": "ip -6 route show table all",
            "rules": "ip -6 rule",
            "nft": "nft list ruleset",
        }
        columns = {
            "Bridge": "name,ports,other_config,external_ids,datapath_type",
            "Port": "name,tag,external_ids,other_config",
            "Interface": "name,type,options,external_ids,mac",
        }
        # One process for each program that answers: under emulation they take long to start.
        shown = self.run("rt", "sh", "-ec", "; echo ===; ".join(commands.values())).split("===\n")
        taken: dict[str, object] = {
            kind: sorted(lines.splitlines()) for kind, lines in zip(commands, shown, strict=True)
        }
        lists = [word for table, names in columns.items() for word in ("--", f"--columns={names}", "list", table)]
        for table, answer in zip(columns, self.ovs.vsctl("--format=json", *lists).splitlines(), strict=True):
            taken[table] = sorted(map(json.dumps, json.loads(answer)["data"]))
        return taken

    def facts(self) -> dict[str, Any]:
        """Return what there is of the `flow` backend; read once after each setup."""
        if self._facts is None:
            self._facts = self.status()["flow"]
        return self._facts

    def backend(self, member: str = "flow") -> Backend:
        """Return the backend that is set up, as the controller knows it; `member`: `flow`, or `flow_ipv4`."""
        status = self.status()
        if (flow := status[member]) is None:
            (endpoint,) = status["endpoints"]
            return RouteBackend(endpoint["ofport"], endpoint["mac"])
        decapsulation = parse_address(flow["decapsulation_address"])
        ports = flow["transmit_ofport"], flow["receive_ofport"]
        return FlowBackend(*ports, decapsulation, flow["mac"], flow["mac"], flow["mtu"])

    def offload(self, care_of_address: str = COA, backend: Backend | None = None) -> None:
        """Send HOA and HOA4 direct both ways, at a care-of address, by the backend that is set up; other flows go."""
        self._backend = backend or self._backend or self.backend()
        self._offload(HA, HOME_PREFIXES, (HOA, HOA4), care_of_address, self._backend)

    def offload4(self, backend: Backend) -> None:
        """Send HA4_HOA direct both ways, at COA4; other flows go."""
        self._offload(HA4, (HOME_PREFIX4,), (HA4_HOA,), COA4, backend)

    def _offload(
        self,
        home_agent: str,
        home_prefixes: Iterable[str],
        home_addresses: Iterable[str],
        care_of_address: str,
        backend: Backend,
    ) -> None:
        owner = HomeAgent(parse_address(home_agent), tuple(map(parse_prefix, home_prefixes)), 10, 0.0, Status.UP, 0.0)
        flows = [
            *pipeline.miss_flows((Normal(),)),
            *guards_of(owner, backend),
            *gates_of(owner, in_namespace(self.names["rt"], kernel_macs), backend),
        ]
        for home_address in home_addresses:
            binding = Binding(parse_prefix(home_address), parse_address(care_of_address), owner.address)
            flows += flows_of(binding, backend).all()
        self._replace_flows(ofctl_text(flows))

    def home(self) -> None:
        """Stop all offload: everything goes by the home agent."""
        self._replace_flows("table=0,priority=0,actions=NORMAL")

    def add_flow(self, flow: str) -> None:
        """Add one flow, until all are replaced."""
        self.forget_flows()
        self.ovs.ofctl("add-flow", BRIDGE, flow)

    def forget_flows(self) -> None:
        """Replace the flows next time, whatever was put last: another may have changed them."""
        self._flows = None

    def _replace_flows(self, text: str) -> None:
        if text == self._flows:
            return
        file = self.ovs.directory / "flows"
        file.write_text(text)
        self.ovs.ofctl("--bundle", "replace-flows", BRIDGE, str(file))
        self._flows = text

    def unverified(self) -> int:
        """Return how many packets out of the tunnel were no binding's, by the counter of the flow that drops them."""
        verify = TABLE_NUMBERS[pipeline.VERIFY]
        (dropping,) = re.findall(
            r"n_packets=(\d+).* actions=drop", self.ovs.ofctl("dump-flows", BRIDGE, f"table={verify}")
        )
        return int(dropping)

    def _is_ready(self, node: str) -> bool:
        """Tell whether a node can ask for neighbours on its links: the kernel may take a second to see a carrier."""
        links = json.loads(self.ip(node, "-json", "address", "show", "up"))
        scopes = {link["ifname"]: {address["scope"] for address in link["addr_info"]} for link in links if link}
        return all(
            "link" in found for name, found in scopes.items() if name not in ("lo", "t4", "t6") and "global" in found
        )

    def _add_nodes(self) -> None:
        sh("ip", "-batch", "-", stdin="\n".join(f"netns add {self.names[node]}" for node in self.nodes))
        for node in self.names:
            self.run(node, "sysctl", "-qw", *SETTINGS)
            self.ip(node, "link", "set", "lo", "up")

    def _build(self) -> None:
        self._add_nodes()
        self.ovs.add_bridge(BRIDGE, DPID)
        ports = [f"s{number}" for number in PORTS.values()]
        links = [*zip(ports, PORTS, strict=True), ("rha", "ha")]
        self.ip_batch(
            "rt",
            *(f"link add {name} up type veth peer name e0 netns {self.names[node]}" for name, node in links),
            f"link set {BRIDGE} up",
        )
        self.ovs.vsctl(
            *(
                word
                for number, port in zip(PORTS.values(), ports, strict=True)
                for word in f"-- add-port {BRIDGE} {port} -- set interface {port} ofport_request={number}".split()
            )
        )
        # Some tests take it down, and others need its addresses.
        self.run("rt", "sysctl", "-qw", f"net.ipv6.conf.{BRIDGE}.keep_addr_on_down=1")
        self.home()
        self.ip_batch(
            "rt",
            f"address add {ROUTER}/64 dev {BRIDGE} nodad",
            f"address add 2001:db8:2::1/64 dev {BRIDGE} nodad",
            "address add 2001:db8:10::1/64 dev rha nodad",
            f"address add {ROUTER4}/24 dev {BRIDGE}",
            f"address add {ACCESS4}/24 dev {BRIDGE}",
            "address add 10.10.0.1/24 dev rha",
            *(f"route add {prefix} via {HA_HOP4}" for prefix in ("10.99.0.0/24", HOME_PREFIX4)),
            f"route add 2001:db8:99::/64 via {HA_HOP}",
        )
        self.ip_batch(
            "cn",
            "link set e0 up",
            f"address add {CN}/64 dev e0 nodad",
            f"address add {CN4}/24 dev e0",
            f"route add default via {ROUTER4}",
            f"route add default via {ROUTER}",
        )
        self.ip_batch(
            "ha",
            "link set e0 up",
            f"address add {HA_HOP}/64 dev e0 nodad",
            f"address add {HA}/128 dev lo nodad",
            f"address add {HA_HOP4}/24 dev e0",
            "route add default via 10.10.0.1",
            "route add default via 2001:db8:10::1",
            *_tunnel(HA, COA),
            f"address add {HA4}/32 dev lo",
            *_tunnel4(HA4, COA4),
            f"route add {HA4_HOA}/32 dev t4",
            f"route add {HOA}/128 dev t6",
            f"route add {HOA4}/32 dev t6",
        )
        self.ip_batch(
            "mn",
            "link set e0 up",
            f"address add {COA}/64 dev e0 nodad",
            "route add 2001:db8::/32 via 2001:db8:2::1",
            *_tunnel(COA, HA),
            *(f"address add {home_address} dev t6 nodad" for home_address in (HOA, OTHER_HOA)),
            f"address add {HOA4}/32 dev t6",
            f"address add {COA4}/24 dev e0",
            f"route add default via {ACCESS4}",
            *_tunnel4(COA4, HA4),
            *(f"address add {home_address}/32 dev t4" for home_address in (HA4_HOA, HA4_OTHER_HOA)),
            f"rule add from {HOME_PREFIX4} lookup {TABLE4}",
            f"route add default dev t4 table {TABLE4}",
            f"rule add from {HOA4} lookup {TABLE}",
            *(f"route add {everything} dev t6 table {TABLE}" for everything in ("::/0", "0.0.0.0/0")),
        )
        self.ip("mn", "-6", "rule", "add", "from", HOME_PREFIXES[0], "lookup", TABLE)


def _tunnel(local: str, remote: str) -> tuple[str, str]:
    """Return the lines for `ip` that make a node's end of the tunnel."""
    return f"link add t6 type ip6tnl mode any local {local} remote {remote} encaplimit none", "link set t6 up"


def _tunnel4(local: str, remote: str) -> tuple[str, str]:
    """Return the lines for `ip` that make a node's end of the tunnel by IPv4."""
    return f"link add t4 type ipip local {local} remote {remote}", "link set t4 up"
