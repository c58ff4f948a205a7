# SPDX-License-Identifier: Apache-2.0
"""Read and change the router's Open vSwitch database with ovs-vsctl(8), one transaction per change.

The external_ids of a backend's OVS ports say what it is (home agent, MAC, namespace and so on), so there is no state
file. The same is recorded in those of row Open_vSwitch, the database's root: written before anything of the backend is
made, removed after everything else. So ports that somebody deletes, with or without their bridge, are no teardown.
"""

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from hoaflow.router.errors import NoBridge, RouterError

TIMEOUT = 10  # seconds
HOME_AGENT, MAC, NETNS = "hoaflow-home-agent", "hoaflow-mac", "hoaflow-netns"
KERNEL_NETNS, MTU, ICMP_SOURCES = "hoaflow-kernel-netns", "hoaflow-mtu", "hoaflow-icmp-sources"

RECORDED = "hoaflow-endpoint-"  # and a port's name: key of a record in row Open_vSwitch
BRIDGE = "bridge"
RECORDS = ["--columns=external_ids", "list", "Open_vSwitch"]  # arguments of ovs-vsctl

# Access VLAN of the tunnel ports: NORMAL floods no other VLAN's frames to them, and flows output to them all the same.
VLAN = 4094


class EndpointRecord(NamedTuple):
    """A tunnel endpoint as recorded in the database: all that its declaration depends on.

    `kernel_namespace`: where the router's kernel is, empty for Open vSwitch's own namespace. `mtu`: 0 if version 0.1
    recorded the endpoint, which left out the last three.
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
    def read(cls, port: str, facts: Mapping[str, str]) -> Self:
        """Return the record of a port with these external_ids."""
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
    """A bridge and its recorded tunnel endpoints. `dpid`: 16 hex digits, empty until the switch runs."""

    name: str
    dpid: str
    datapath_type: str
    endpoints: tuple[EndpointRecord, ...]

    @property
    def userspace(self) -> bool:
        """Whether the datapath is in userspace, where packets must not have offloads pending."""
        return self.datapath_type == "netdev"


class PortState(NamedTuple):
    """A port's OpenFlow number, or the reason why it has none."""

    number: int | None
    error: str


class Ovsdb:
    """One Open vSwitch database. `db` as in `ovs-vsctl --db`; None for its default."""

    def __init__(self, db: str | None = None) -> None:
        self.db = db

    def bridge(self, name: str) -> Bridge:
        """Read a bridge. Raises NoBridge if there is none of that name, RouterError if the database does not answer."""
        roots, bridges, ports = self.tables(
            RECORDS,
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
        """Return the endpoints that are recorded for a bridge, even if the bridge is not there."""
        return _recorded(self.rows(*RECORDS), bridge)

    def record(self, bridge: str, port: str, facts: Mapping[str, str]) -> None:
        """Record what the port of a bridge stands for. Idempotent."""
        text = json.dumps({BRIDGE: bridge, **facts})
        self.run("--no-wait", "set", "Open_vSwitch", ".", f"external_ids:{RECORDED}{port}={json.dumps(text)}")

    def forget(self, port: str) -> None:
        """Remove the record of a port, if there is one."""
        self.run("--no-wait", "remove", "Open_vSwitch", ".", "external_ids", f"{RECORDED}{port}")

    def bridge_of_port(self, port: str) -> str | None:
        """Return the bridge that has a port of that name, or None."""
        if not self.rows("--columns=name", "find", "Port", f"name={port}"):
            return None
        return self.run("port-to-br", port).strip()

    def port_state(self, port: str) -> PortState:
        """Return the port's OpenFlow number, or why Open vSwitch has not taken its interface."""
        rows = self.rows("--columns=ofport,error", "find", "Interface", f"name={port}")
        if not rows:
            return PortState(None, "no such port")
        number = rows[0]["ofport"]
        error = "".join(rows[0]["error"])
        if isinstance(number, int) and number > 0:
            return PortState(number, error)
        return PortState(None, error or "Open vSwitch has not taken the port (is ovs-vswitchd running?)")

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the rows that `ovs-vsctl ARGUMENTS` (list or find) shows, as {column: value}; maps are lists of pairs.

        Raises RouterError.
        """
        (table,) = self.tables(arguments)
        return table

    def tables(self, *commands: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return the rows that several commands show at one moment. Raises RouterError."""
        text = self.run("--format=json", *(word for command in commands for word in ("--", *command)))
        return [
            [
                {heading: _value(cell) for heading, cell in zip(table["headings"], row, strict=True)}
                for row in table["data"]
            ]
            for table in map(json.loads, text.splitlines())
        ]

    def run(self, *arguments: str) -> str:
        """Run `ovs-vsctl ARGUMENTS` as one transaction, and return what it prints. Raises RouterError."""
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


def records(roots: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return what rows of table Open_vSwitch record, `{port: {fact: value}}`; unreadable records are left out."""
    found = {}
    for key, text in (entry for root in roots for entry in root["external_ids"] if entry[0].startswith(RECORDED)):
        with contextlib.suppress(ValueError):
            facts = json.loads(text)
            if isinstance(facts, dict) and all(isinstance(value, str) for value in facts.values()):
                found[key.removeprefix(RECORDED)] = facts
    return found


def _recorded(roots: Sequence[Mapping[str, Any]], bridge: str) -> list[EndpointRecord]:
    found = []
    for port, facts in records(roots).items():
        if facts.get(BRIDGE) == bridge and HOME_AGENT in facts:
            with contextlib.suppress(ValueError):
                found.append(EndpointRecord.read(port, facts))
    return found


def _value(cell: Any) -> Any:
    """Convert a cell of OVSDB's JSON (RFC 7047 §5.1): sets and maps to lists, uuids to text."""
    if isinstance(cell, list) and len(cell) == 2:
        kind, value = cell
        if kind == "uuid":
            return value
        if kind == "set":
            return [_value(member) for member in value]
        if kind == "map":
            return [(_value(key), _value(member)) for key, member in value]
    return cell
