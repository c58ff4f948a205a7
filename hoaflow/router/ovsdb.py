# SPDX-License-Identifier: Apache-2.0
"""The router's Open vSwitch database, through ovs-vsctl(8): idempotent verbs, one transaction per change.

What a tunnel endpoint is (home agent, MAC, namespace) stands in the external_ids of its OVS port, so there is no state
file. The same stands in those of the database's root, row Open_vSwitch, written before anything of an endpoint is made
and removed after everything else: a port that somebody deletes, alone or with its bridge, is told apart from teardown.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hoaflow.router.errors import NoBridge, RouterError

TIMEOUT = 10  # seconds
HOME_AGENT, MAC, NETNS = "hoaflow-home-agent", "hoaflow-mac", "hoaflow-netns"
KERNEL_NETNS, MTU, ICMP_SOURCES = "hoaflow-kernel-netns", "hoaflow-mtu", "hoaflow-icmp-sources"

RECORDED = "hoaflow-endpoint-"  # and the port's name: key of a record in row Open_vSwitch
BRIDGE = "bridge"

# Access VLAN of the tunnel ports. NORMAL floods no other VLAN's frames to them; flows that name the port
# reach it.
VLAN = 4094


class EndpointRecord(NamedTuple):
    """A tunnel endpoint as the database has it: all that its declaration follows from.

    `kernel_namespace`: where the router's kernel is, empty for Open vSwitch's own. `mtu`: 0 where a former version has
    recorded the endpoint, without these.
    """

    home_agent: str
    port: str
    mac: str
    namespace: str
    kernel_namespace: str = ""
    mtu: int = 0
    icmp_sources: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, str]:
        """The external_ids of its port."""
        return {
            HOME_AGENT: self.home_agent,
            MAC: self.mac,
            NETNS: self.namespace,
            KERNEL_NETNS: self.kernel_namespace,
            MTU: str(self.mtu),
            ICMP_SOURCES: " ".join(self.icmp_sources),
        }

    @classmethod
    def read(cls, port: str, facts: Mapping[str, str]) -> EndpointRecord:
        """The record of a port with these external_ids."""
        return cls(
            facts[HOME_AGENT],
            port,
            facts.get(MAC, ""),
            facts.get(NETNS, ""),
            facts.get(KERNEL_NETNS, ""),
            int(facts.get(MTU, "0")),
            tuple(facts.get(ICMP_SOURCES, "").split()),
        )


class Bridge(NamedTuple):
    """A bridge and the tunnel endpoints recorded on it. `dpid`: 16 hex digits, empty before the switch
    runs.
    """

    name: str
    dpid: str
    datapath_type: str
    endpoints: tuple[EndpointRecord, ...]

    @property
    def userspace(self) -> bool:
        """Whether the datapath is in userspace, which takes packets without offloads only."""
        return self.datapath_type == "netdev"


class PortState(NamedTuple):
    """What Open vSwitch says of a port's interface: its OpenFlow number, or why it has none."""

    number: int | None
    error: str


class Ovsdb:
    """One Open vSwitch database. `db` as in `ovs-vsctl --db`; None for its default."""

    def __init__(self, db: str | None = None) -> None:
        self.db = db

    def bridge(self, name: str) -> Bridge:
        """Read a bridge. Raises NoBridge when there is none of that name, RouterError when the database does not
        answer.
        """
        roots, bridges, ports = self.tables(
            ["--columns=external_ids", "list", "Open_vSwitch"],
            ["--columns=name,datapath_id,datapath_type,ports", "find", "Bridge", f"name={name}"],
            ["--columns=_uuid,name,external_ids", "list", "Port"],
        )
        if not bridges:
            raise NoBridge(f"there is no bridge {name} (`ovs-vsctl list-br` lists the bridges)")
        (row,) = bridges
        endpoints = {
            port["name"]: EndpointRecord.read(port["name"], facts)
            for port in ports
            if port["_uuid"] in row["ports"] and HOME_AGENT in (facts := dict(port["external_ids"]))
        }
        endpoints |= {record.port: record for record in _recorded(roots, name)}
        dpid = "".join(row["datapath_id"])
        return Bridge(row["name"], dpid, row["datapath_type"], tuple(sorted(endpoints.values())))

    def recorded(self, bridge: str) -> list[EndpointRecord]:
        """The endpoints that are recorded for a bridge, also for one that is not there."""
        return _recorded(self.rows("--columns=external_ids", "list", "Open_vSwitch"), bridge)

    def record(self, bridge: str, record: EndpointRecord) -> None:
        """Write an endpoint down, or again. Idempotent."""
        text = json.dumps({BRIDGE: bridge, **record.facts})
        self.run("--no-wait", "set", "Open_vSwitch", ".", f"external_ids:{RECORDED}{record.port}={json.dumps(text)}")

    def forget(self, record: EndpointRecord) -> None:
        """Remove an endpoint's record; one that is not there is fine."""
        self.run("--no-wait", "remove", "Open_vSwitch", ".", "external_ids", f"{RECORDED}{record.port}")

    def bridge_of_port(self, port: str) -> str | None:
        """The bridge that has a port of that name, None when none has."""
        if not self.rows("--columns=name", "find", "Port", f"name={port}"):
            return None
        return self.run("port-to-br", port).strip()

    def port_state(self, port: str) -> PortState:
        """Whether Open vSwitch took the port's interface."""
        rows = self.rows("--columns=ofport,error", "find", "Interface", f"name={port}")
        if not rows:
            return PortState(None, "no such port")
        number = rows[0]["ofport"]
        error = "".join(rows[0]["error"])
        if isinstance(number, int) and number > 0:
            return PortState(number, error)
        return PortState(None, error or "Open vSwitch has not taken the port (is ovs-vswitchd running?)")

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """What `ovs-vsctl ARGUMENTS` (list or find) shows: a row as {column: value}, a map as a list of pairs.

        Raises RouterError.
        """
        (table,) = self.tables(arguments)
        return table

    def tables(self, *commands: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The same for several commands, of one moment. Raises RouterError."""
        text = self.run("--format=json", *(word for command in commands for word in ("--", *command)))
        return [
            [
                {heading: _value(cell) for heading, cell in zip(table["headings"], row, strict=True)}
                for row in table["data"]
            ]
            for table in map(json.loads, text.splitlines())
        ]

    def run(self, *arguments: str) -> str:
        """Run `ovs-vsctl ARGUMENTS`, one transaction; returns what it prints. Raises RouterError."""
        command = ["ovs-vsctl", f"--timeout={TIMEOUT}"]
        if self.db is not None:
            command.append(f"--db={self.db}")
        try:
            done = subprocess.run(
                [*command, *arguments], capture_output=True, text=True, timeout=TIMEOUT + 5, check=False
            )
        except FileNotFoundError as error:
            raise RouterError("ovs-vsctl was not found: install Debian's package openvswitch-switch") from error
        except subprocess.TimeoutExpired as error:
            raise RouterError(f"ovs-vsctl did not answer within {TIMEOUT + 5} s") from error
        if done.returncode != 0:
            reason = done.stderr.strip().removeprefix("ovs-vsctl: ")
            if "Alarm clock" in reason or done.returncode < 0:
                reason = f"no answer within {TIMEOUT} s (are ovsdb-server and ovs-vswitchd running?)"
            raise RouterError(f"ovs-vsctl {' '.join(arguments)}: {reason}")
        return done.stdout


def _recorded(roots: Sequence[Mapping[str, Any]], bridge: str) -> list[EndpointRecord]:
    """The records for a bridge of the rows of table Open_vSwitch. What nobody here has written is passed over."""
    found = []
    for key, text in (entry for root in roots for entry in root["external_ids"]):
        try:
            facts = json.loads(text) if key.startswith(RECORDED) else {}
            if facts[BRIDGE] == bridge:
                found.append(EndpointRecord.read(key.removeprefix(RECORDED), facts))
        except (ValueError, LookupError, TypeError):
            continue
    return found


def _value(cell: Any) -> Any:
    """A cell of OVSDB's JSON (RFC 7047 §5.1): a set or map as a list, a uuid as its text, the rest as it
    is.
    """
    if isinstance(cell, list) and len(cell) == 2:
        kind, value = cell
        if kind == "uuid":
            return value
        if kind == "set":
            return [_value(member) for member in value]
        if kind == "map":
            return [(_value(key), _value(member)) for key, member in value]
    return cell
