# SPDX-License-Identifier: Apache-2.0
"""What of a tunnel endpoint is in Open vSwitch's database, as objects of its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from router.errors import RouterError
from router.ovsdb import VLAN, EndpointRecord, Ovsdb
from tunnel.links import offloads_off, offloads_on
from tunnel.look import Look
from tunnel.namespace import Namespace


class InDatabase:
    """An object that is in Open vSwitch's database: it cannot be compared while that is away."""


@dataclass(frozen=True)
class Recorded(InDatabase):
    """The database's record of an endpoint. Declared before all else, so that what was half made is known, too."""

    bridge: str
    record: EndpointRecord
    ovsdb: Ovsdb

    def __str__(self) -> str:
        return f"endpoint for home agent {self.record.home_agent} recorded in the database"

    def difference(self, look: Look) -> str | None:
        recorded = look.once(("recorded", id(self.ovsdb), self.bridge), lambda: self.ovsdb.recorded(self.bridge))
        found = next((record for record in recorded if record.port == self.record.port), None)
        if found is None:
            return f"the database's record of the endpoint for home agent {self.record.home_agent} is missing"
        return None if found == self.record else f"the database's record of port {self.record.port} has been changed"

    def make(self) -> None:
        self.ovsdb.record(self.bridge, self.record)

    def remove(self) -> bool:
        there = any(record.port == self.record.port for record in self.ovsdb.recorded(self.bridge))
        self.ovsdb.forget(self.record)
        return there


@dataclass(frozen=True)
class EndpointPort(InDatabase):
    """The bridge's port, with the facts of the endpoint, taken by Open vSwitch."""

    bridge: str
    record: EndpointRecord
    ovsdb: Ovsdb

    def __str__(self) -> str:
        return f"port {self.record.port} added to bridge {self.bridge}"

    def difference(self, look: Look) -> str | None:
        bridges, ports, interfaces = look.once(("ovsdb", id(self.ovsdb)), self._tables)
        name = self.record.port
        port = next((row for row in ports if row["name"] == name), None)
        bridge = next((row for row in bridges if row["name"] == self.bridge), None)
        if port is None or bridge is None or port["_uuid"] not in _several(bridge["ports"]):
            return f"port {name} is not on bridge {self.bridge}"
        if (port["tag"], dict(port["external_ids"])) != (VLAN, self.record.facts):
            return f"port {name} has been changed in the database"
        interface = next((row for row in interfaces if row["name"] == name), None)
        if interface is None or interface["type"] not in ("", "system"):
            return f"port {name} has been changed in the database"
        if not isinstance(interface["ofport"], int) or interface["ofport"] <= 0:
            return f"OVS port: {''.join(interface['error']) or f'Open vSwitch has not taken port {name}'}"
        return None

    def make(self) -> None:
        if self.ovsdb.bridge_of_port(self.record.port) == self.bridge:
            with Look() as look:
                taken = self.ovsdb.port_state(self.record.port).number is not None
                kept = taken and "changed" in (self.difference(look) or "")
            if not kept:
                self.remove()
        self.ovsdb.add_endpoint(self.bridge, self.record)
        state = self.ovsdb.port_state(self.record.port)
        if state.number is None:
            raise RouterError(f"Open vSwitch did not take port {self.record.port}: {state.error}")

    def remove(self) -> bool:
        there = self.ovsdb.bridge_of_port(self.record.port) == self.bridge
        if there:
            self.ovsdb.remove_port(self.bridge, self.record.port)
        return there

    def _tables(self) -> list[list[dict[str, Any]]]:
        return self.ovsdb.tables(
            ["--columns=name,ports", "list", "Bridge"],
            ["--columns=_uuid,name,tag,external_ids", "find", "Port", f"name={self.record.port}"],
            ["--columns=name,type,ofport,error", "find", "Interface", f"name={self.record.port}"],
        )


@dataclass(frozen=True)
class NoOffloads:
    """An interface without checksum and segmentation offloads: a userspace datapath takes packets as they are."""

    namespace: Namespace
    name: str

    def __str__(self) -> str:
        return f"checksum and segmentation offloads of {self.name} off (userspace datapath)"

    def difference(self, look: Look) -> str | None:
        look.link(self.namespace, self.name)
        return f"offloads of {self.name} are on" if offloads_on(self.namespace, self.name) else None

    def make(self) -> None:
        offloads_off(self.namespace, self.name)

    def remove(self) -> None:
        """It goes with the interface."""


def _several(cell: Any) -> list[str]:
    return cell if isinstance(cell, list) else [cell]
