# SPDX-License-Identifier: Apache-2.0
"""A router with the `flow` backend, and around it what Mobile IPv6 needs, with the kernel's own ip6tnl devices.

    cn ── 1 ┐  bridge br0 ┌ LOCAL ── the router's kernel ── home agent
    mn ── 2 ┘             │          (Open vSwitch's namespace)

Correspondent node and mobile node are on links of the one bridge, in different prefixes, so all between them passes
the router's kernel. Home agent and mobile node have their tunnel set as UMIP sets it: local = care-of address,
remote = home agent on the mobile node, the reverse on the home agent. Offloads of all links are on.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from typing import Any

from router.cli import main
from tests.support.ovs import Ovs
from tests.support.router_lab import sh
from tunnel.namespace import in_namespace

BRIDGE = "br0"
DPID = 0xF10
HA, HOA, OTHER_HOA = "2001:db8:99::1", "2001:db8:99::100", "2001:db8:99::200"
COA, COA_2, STRANGER = "2001:db8:2::2", "2001:db8:2::3", "2001:db8:2::66"
CN = "2001:db8:1::2"
ROUTER, HA_HOP = "2001:db8:1::1", "2001:db8:10::2"
SETTINGS = ("net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
TABLE = "77"
PORTS = {"cn": 1, "mn": 2}


class CommandFailed(Exception):
    """`hoaflow-router` ended with another status than 0; the message is what it said on stderr."""


class FlowLab:
    """The network of this module's docstring. A context manager."""

    def __init__(self, ovs: Ovs) -> None:
        self.ovs = ovs
        self._facts: dict[str, Any] | None = None
        self.names = {node: f"{ovs.netns}-{node}" for node in ("cn", "mn", "ha")} | {"rt": ovs.netns}

    def __enter__(self) -> FlowLab:
        try:
            self._build()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove everything. Harmless when repeated."""
        with contextlib.suppress(RuntimeError):
            self.ovs.vsctl("--if-exists", "del-br", BRIDGE)
        for node in ("cn", "mn", "ha"):
            if os.path.exists(f"/run/netns/{self.names[node]}"):
                sh("ip", "netns", "del", self.names[node])

    def ip(self, node: str, *arguments: str) -> str:
        """`ip ARGUMENTS` in a node."""
        return sh("ip", "-n", self.names[node], *arguments)

    def run(self, node: str, *command: str, check: bool = True) -> str:
        """A command in a node; returns its output."""
        return sh("ip", "netns", "exec", self.names[node], *command, check=check)

    def start(self, node: str, *command: str) -> subprocess.Popen[str]:
        """A command in a node that goes on; its output is piped."""
        return subprocess.Popen(["ip", "netns", "exec", self.names[node], *command], stdout=subprocess.PIPE, text=True)

    def ping(self, node: str, target: str, *options: str) -> str:
        """Three pings; returns what ping says."""
        return self.run(node, "ping", "-n", "-c3", "-i0.2", "-W2", *options, target, check=False)

    def router(self, *arguments: str) -> str:
        """`hoaflow-router ARGUMENTS` on the router; returns what it prints. Raises CommandFailed."""
        status, output, errors = self.router_status(*arguments)
        if status:
            raise CommandFailed(errors + output)
        return output

    def router_status(self, *arguments: str) -> tuple[int, str, str]:
        """The same, whatever its exit status: that, standard output and standard error."""
        output, errors = io.StringIO(), io.StringIO()
        argv = [*arguments, f"--db=unix:{self.ovs.database}"]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = in_namespace(self.names["rt"], lambda: main(argv))
        return status, output.getvalue(), errors.getvalue()

    def setup(self, *options: str) -> str:
        """`hoaflow-router setup` for the bridge."""
        return self.router("setup", "--bridge", BRIDGE, *options)

    def status(self) -> dict[str, Any]:
        """`hoaflow-router status --json`, whatever its exit status."""
        found: dict[str, Any] = json.loads(self.router_status("status", "--bridge", BRIDGE, "--json")[1])
        return found

    def doctor(self) -> dict[str, dict[str, str]]:
        """`hoaflow-router doctor --json`: the findings by what was checked."""
        found = json.loads(self.router_status("doctor", "--bridge", BRIDGE, "--json")[1])
        return {finding["check"]: finding for finding in found["findings"]}

    def snapshot(self) -> dict[str, object]:
        """All that setup could leave behind: links, tc, addresses, rules, settings, and Open vSwitch's database."""
        commands = {
            "links": "ip -br link",
            "qdiscs": "tc qdisc show",
            "addresses": "ip -br -6 address",
            "routes": "ip -6 route show table all",
            "rules": "ip -6 rule",
            "nft": "nft list ruleset",
        }
        taken: dict[str, object] = {
            kind: sorted(self.run("rt", *command.split()).splitlines()) for kind, command in commands.items()
        }
        for table, columns in {
            "Bridge": "name,ports,other_config,external_ids,datapath_type",
            "Port": "name,tag,external_ids,other_config",
            "Interface": "name,type,options,external_ids,mac",
        }.items():
            taken[table] = sorted(self.ovs.vsctl("--no-headings", f"--columns={columns}", "list", table).split("\n\n"))
        return taken

    def facts(self) -> dict[str, Any]:
        """What flows have to know of the backend; read once, as setting it up again changes none of it."""
        if self._facts is None:
            self._facts = self.status()["flow"]
        return self._facts

    # The flows that the controller will install, as the design's pipeline has them but in one table.

    def offload(self, care_of_address: str = COA) -> None:
        """Both ways direct for HOA at a care-of address, and what guards them; other flows of the same match go."""
        flow = self.facts()
        decapsulation = f"set_field:{flow['decapsulation_address']}->ipv6_dst,set_field:{flow['mac']}->eth_dst,LOCAL"
        ends = f"set_field:{HA}->tun_ipv6_src,set_field:{care_of_address}->tun_ipv6_dst"
        self._replace_flows(
            *(f"priority=290,ipv6,ipv6_dst={HOA},nw_ttl={ttl},actions=NORMAL" for ttl in (0, 1, 2)),
            f"priority=200,ipv6,ipv6_dst={HOA},actions=dec_ttl,{ends},output:{flow['transmit_ofport']}",
            f"priority=210,ipv6,ipv6_src={care_of_address},ipv6_dst={HA},nw_proto=41,actions={decapsulation}",
            f"priority=400,in_port={flow['receive_ofport']},ipv6,tun_ipv6_src={care_of_address},ipv6_src={HOA},"
            f"actions=set_field:{flow['mac']}->eth_dst,LOCAL",
            f"priority=390,in_port={flow['receive_ofport']},actions=drop",
        )

    def home(self) -> None:
        """No offload: everything by the home agent."""
        self._replace_flows()

    def add_flow(self, flow: str) -> None:
        """Add one flow."""
        self.ovs.ofctl("add-flow", BRIDGE, flow)

    def _replace_flows(self, *flows: str) -> None:
        file = self.ovs.directory / "flows"
        file.write_text("\n".join(["priority=0,actions=NORMAL", *flows]))
        self.ovs.ofctl("--bundle", "replace-flows", BRIDGE, str(file))

    def unverified(self) -> int:
        """Packets out of the tunnel that were no binding's, by the counter of the flow that drops them."""
        flows = self.ovs.ofctl("dump-flows", BRIDGE, f"in_port={self.facts()['receive_ofport']}")
        (dropping,) = [line for line in flows.splitlines() if "priority=390" in line]
        return int(dropping.partition("n_packets=")[2].partition(",")[0])

    def _build(self) -> None:
        for node in ("cn", "mn", "ha"):
            sh("ip", "netns", "add", self.names[node])
        for node in self.names:
            self.run(node, "sysctl", "-qw", *SETTINGS)
            self.ip(node, "link", "set", "lo", "up")
        self.ovs.add_bridge(BRIDGE, DPID)
        for node, number in PORTS.items():
            self.ip("rt", *f"link add s{number} type veth peer name e0 netns {self.names[node]}".split())
            self.ip("rt", "link", "set", f"s{number}", "up")
            self.ip(node, "link", "set", "e0", "up")
            request = f"ofport_request={number}"
            self.ovs.vsctl("add-port", BRIDGE, f"s{number}", "--", "set", "interface", f"s{number}", request)
        self.ip("rt", *f"link add rha type veth peer name e0 netns {self.names['ha']}".split())
        self.ip("rt", "link", "set", "rha", "up")
        self.ip("ha", "link", "set", "e0", "up")
        self.ip("rt", "link", "set", BRIDGE, "up")
        self.home()
        for node, device, address in (
            ("rt", BRIDGE, f"{ROUTER}/64"),
            ("rt", BRIDGE, "2001:db8:2::1/64"),
            ("rt", "rha", "2001:db8:10::1/64"),
            ("cn", "e0", f"{CN}/64"),
            ("mn", "e0", f"{COA}/64"),
            ("ha", "e0", f"{HA_HOP}/64"),
            ("ha", "lo", f"{HA}/128"),
        ):
            self.ip(node, "-6", "address", "add", address, "dev", device, "nodad")
        self.ip("cn", "-6", "route", "add", "default", "via", ROUTER)
        self.ip("ha", "-6", "route", "add", "default", "via", "2001:db8:10::1")
        self.ip("mn", "-6", "route", "add", "2001:db8::/32", "via", "2001:db8:2::1")
        self.ip("rt", "-6", "route", "add", "2001:db8:99::/64", "via", HA_HOP)
        self._tunnel("ha", HA, COA)
        self.ip("ha", "-6", "route", "add", f"{HOA}/128", "dev", "t6")
        self._tunnel("mn", COA, HA)
        for home_address in (HOA, OTHER_HOA):
            self.ip("mn", "-6", "address", "add", f"{home_address}/128", "dev", "t6", "nodad")
            self.ip("mn", "-6", "rule", "add", "from", home_address, "lookup", TABLE)
        self.ip("mn", "-6", "route", "add", "default", "dev", "t6", "table", TABLE)

    def _tunnel(self, node: str, local: str, remote: str) -> None:
        ends = f"local {local} remote {remote} encaplimit none"
        self.ip(node, *f"link add t6 type ip6tnl mode ip6ip6 {ends}".split())
        self.ip(node, "link", "set", "t6", "up")
