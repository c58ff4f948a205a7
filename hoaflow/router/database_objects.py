# SPDX-License-Identifier: Apache-2.0
"""Objects of both backends' declarations that are in the OVS database: records, ports, a bridge's MAC address."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hoaflow.router.errors import RouterError
from hoaflow.router.ovsdb import BRIDGE, RECORDS, VLAN, Ovsdb, records
from hoaflow.tunnel.actual_state import ActualState

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class DatabaseObject:
    """An object in the Open vSwitch database, which cannot be compared while the database is unreachable."""

    ovsdb: Ovsdb
    bridge: str

    def rows(self, actual: ActualState) -> tuple[Rows, Rows, Rows]:
        """Return the rows of all bridges, ports and interfaces, by name. Raises RouterError."""

        def read() -> list[Rows]:
            tables = self.ovsdb.tables(
                ["--columns=name,ports,other_config", "list", "Bridge"],
                ["--columns=_uuid,name,tag,external_ids", "list", "Port"],
                ["--columns=name,type,options,ofport,error", "list", "Interface"],
            )
            return [{row["name"]: row for row in table} for table in tables]

        bridges, ports, interfaces = actual.once(("ovsdb", self.ovsdb.db), read)
        return bridges, ports, interfaces


@dataclass(frozen=True)
class DatabaseRecord(DatabaseObject):
    """The database's record of what a port stands for, declared first, so that teardown finds what is half made.

    `what`: what it stands for, in words.
    """

    what: str
    port: str
    facts: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.what} recorded in the database"

    def difference(self, actual: ActualState) -> str | None:
        found = actual.once(("records", self.ovsdb.db), self._records).get(self.port)
        if found is None:
            return f"the database's record of the {self.what} is missing"
        wanted = {BRIDGE: self.bridge, **self.facts}
        return None if found == wanted else f"the database's record of port {self.port} has been changed"

    def make(self) -> None:
        self.ovsdb.record(self.bridge, self.port, self.facts)

    def remove(self) -> bool:
        there = self.port in self._records()
        self.ovsdb.forget(self.port)
        return there

    def _records(self) -> dict[str, dict[str, str]]:
        return records(self.ovsdb.rows(*RECORDS))


@dataclass(frozen=True)
class BridgePort(DatabaseObject):
    """A port of the bridge that Open vSwitch has taken, with `facts` among its external_ids.

    `kind`: its interface's type, empty for an existing network device. For other types, `options` are all its options,
    and `device` is the device that Open vSwitch makes for it in the current network namespace.
    """

    name: str
    facts: Mapping[str, str]
    kind: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    device: str = ""

    def __str__(self) -> str:
        return f"port {self.name} added to bridge {self.bridge}"

    def difference(self, actual: ActualState) -> str | None:
        port, interface = self._found(actual)
        if port is None:
            return f"port {self.name} is not on bridge {self.bridge}"
        if changed := self._changed(port, interface):
            return f"port {self.name} has been changed in the database ({' and '.join(changed)})"
        assert interface is not None
        if not isinstance(interface["ofport"], int) or interface["ofport"] <= 0:
            return f"OVS port: {''.join(interface['error']) or f'Open vSwitch has not taken port {self.name}'}"
        if self.device and self.device not in actual.links(None):
            return (
                f"port {self.name} is there, but its system device {self.device} is not in this network namespace: run "
                f"hoaflow-router where Open vSwitch runs"
            )
        return None

    def make(self) -> None:
        with ActualState() as actual:
            there, _ = self._found(actual)
        # In place if possible: the port keeps its OpenFlow number, which flows refer to.
        if there is None or self._put() is not None:
            self.remove()
            if (left := self._put()) is not None:
                raise RouterError(left)

    def remove(self) -> bool:
        there = self.ovsdb.bridge_of_port(self.name) is not None
        if there:
            self.ovsdb.run("--if-exists", "del-port", self.name)
        return there

    def _found(self, actual: ActualState) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the row of the port, if it is on the bridge, and that of its interface."""
        bridges, ports, interfaces = self.rows(actual)
        port, on_bridge = ports.get(self.name), _several(bridges.get(self.bridge, {}).get("ports", []))
        return port if port and port["_uuid"] in on_bridge else None, interfaces.get(self.name)

    def _put(self) -> str | None:
        """Write all columns, and return what still differs."""
        self.ovsdb.run(
            *["--may-exist", "add-port", self.bridge, self.name, "--", "set", "Port", self.name, f"tag={VLAN}"],
            *(f'external_ids:{key}="{value}"' for key, value in self.facts.items()),
            *["--", "set", "Interface", self.name, f'type="{self.kind}"'],
            "options={" + ",".join(f'{key}="{value}"' for key, value in self.options.items()) + "}",
        )
        with ActualState() as actual:
            return self.difference(actual)

    def _changed(self, port: dict[str, Any], interface: dict[str, Any] | None) -> list[str]:
        """Return the names of the columns that are not as declared."""
        kind = "" if interface is None or interface["type"] == "system" else interface["type"]
        as_declared = {
            "tag": port["tag"] == VLAN,
            "external_ids": self.facts.items() <= dict(port["external_ids"]).items(),
            "interface": interface is not None,
            "type": kind == self.kind,
            "options": interface is None or not self.kind or dict(interface["options"]) == self.options,
        }
        return [column for column, right in as_declared.items() if not right]


@dataclass(frozen=True)
class FixedMac(DatabaseObject):
    """The configured MAC address of the bridge's own interface, which flows refer to.

    Without it, Open vSwitch changes the address when ports come and go.
    """

    mac: str

    def __str__(self) -> str:
        return f"other_config:hwaddr of bridge {self.bridge} = {self.mac}"

    def difference(self, actual: ActualState) -> str | None:
        bridges, _, _ = self.rows(actual)
        found = dict(bridges.get(self.bridge, {}).get("other_config", [])).get("hwaddr")
        return None if found == self.mac else f"other_config:hwaddr of bridge {self.bridge} is {found}, not {self.mac}"

    def make(self) -> None:
        self.ovsdb.run("set", "Bridge", self.bridge, f'other_config:hwaddr="{self.mac}"')

    def remove(self) -> bool:
        with ActualState() as actual:
            there = self.difference(actual) is None
        self.ovsdb.run("--if-exists", "remove", "Bridge", self.bridge, "other_config", f'hwaddr="{self.mac}"')
        return there


def _several(cell: Any) -> list[str]:
    return cell if isinstance(cell, list) else [cell]
