# SPDX-License-Identifier: Apache-2.0
"""The `flow` backend as the OVS database has it: two ports, and what is known of them in their external_ids."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any, NamedTuple

from router.errors import RouterError
from router.ovsdb import MAC, VLAN, Ovsdb

BACKEND, ROLE, DECAPSULATION_ADDRESS, CHANGED = (
    "hoaflow-backend",
    "hoaflow-role",
    "hoaflow-decapsulation-address",
    "hoaflow-changed",
)
FLOW, TRANSMIT, RECEIVE = "flow", "transmit", "receive"
TRANSMIT_UDP, RECEIVE_UDP = 6941, 6943  # defaults
GENEVE_UDP = 6081  # where a Geneve port names none (IANA)
DEVICE = "hoaflow6"  # the collect-metadata ip6tnl

# What setup may have changed of the bridge itself, for teardown to take back.
LINK, HWADDR = "link", "hwaddr"


class FlowRecord(NamedTuple):
    """A bridge's `flow` backend. `transmit_udp`, `receive_udp`: UDP port numbers, which no other Geneve port has.

    `decapsulation_address`: of the router's own, where its kernel decapsulates. `mac`: of the bridge's own interface.
    `changed`: LINK if setup has set that interface up, HWADDR if it has fixed its MAC address.
    """

    transmit_port: str
    receive_port: str
    transmit_udp: int
    receive_udp: int
    decapsulation_address: str
    mac: str
    changed: frozenset[str] = frozenset()

    @property
    def transmit_device(self) -> str:
        """The system device of the transmit port."""
        return system_device(self.transmit_udp)

    @property
    def receive_device(self) -> str:
        """The system device of the receive port."""
        return system_device(self.receive_udp)


def system_device(udp: int) -> str:
    """The device that Open vSwitch makes for all Geneve ports of a UDP port number."""
    return f"genev_sys_{udp}"


def plan(bridge: str, transmit_udp: int, receive_udp: int, mac: str, changed: frozenset[str]) -> FlowRecord:
    """The record for a bridge: the same names and address each time.

    The decapsulation address is a unique local one (RFC 4193): nothing outside the router needs to know it, as flows
    put it into packets right before the kernel takes them.
    """
    digest = hashlib.sha256(f"{bridge} flow".encode()).digest()
    groups = [f"fd{digest[5]:02x}", digest[6:8].hex(), digest[8:10].hex()]
    return FlowRecord(
        f"hfx-{digest[:5].hex()}",
        f"hfr-{digest[:5].hex()}",
        transmit_udp,
        receive_udp,
        str(ipaddress.IPv6Address(":".join(groups) + "::41")),
        mac,
        changed,
    )


def read(ovsdb: Ovsdb, bridge: str) -> FlowRecord | None:
    """The record of a bridge, None without one. Raises RouterError, also when half of it is missing."""
    ports = {uuid for row in ovsdb.rows("--columns=ports", "list", "Bridge", bridge) for uuid in row["ports"]}
    found = {role: port for uuid, role, port in _ports(ovsdb) if uuid in ports}
    if not found:
        return None
    if found.keys() != {TRANSMIT, RECEIVE}:
        raise RouterError(
            f"bridge {bridge} has only the {' '.join(found)} port of a flow backend: run setup again, or teardown"
        )
    transmit, receive = found[TRANSMIT], found[RECEIVE]
    facts = transmit["external_ids"] | receive["external_ids"]
    return FlowRecord(
        transmit["name"],
        receive["name"],
        _udp(ovsdb, transmit["name"]),
        _udp(ovsdb, receive["name"]),
        facts[DECAPSULATION_ADDRESS],
        facts[MAC],
        frozenset(facts[CHANGED].split()),
    )


def leftovers(ovsdb: Ovsdb, bridge: str) -> list[str]:
    """The names of the bridge's ports that belong to a flow backend, even half of one."""
    ports = {uuid for row in ovsdb.rows("--columns=ports", "list", "Bridge", bridge) for uuid in row["ports"]}
    return [port["name"] for uuid, _, port in _ports(ovsdb) if uuid in ports]


def other_bridge(ovsdb: Ovsdb, bridge: str) -> str | None:
    """Another bridge of this database that has the flow backend."""
    owners = {ovsdb.bridge_of_port(port["name"]) for _, _, port in _ports(ovsdb)}
    return next((owner for owner in sorted(filter(None, owners)) if owner != bridge), None)


def geneve_ports(ovsdb: Ovsdb, udp: int) -> list[str]:
    """The names of all Geneve ports with this UDP port number."""
    rows = ovsdb.rows("--columns=name,options", "find", "Interface", "type=geneve")
    return [row["name"] for row in rows if int(dict(row["options"]).get("dst_port", GENEVE_UDP)) == udp]


def add(ovsdb: Ovsdb, bridge: str, record: FlowRecord) -> None:
    """Make both ports, with what is known of them, in one transaction. Idempotent. Raises RouterError.

    tos=inherit: the outer header gets the inner one's traffic class (RFC 2473 section 6.4), ECN included.
    """
    command: list[str] = []
    for role, port, udp in (
        (TRANSMIT, record.transmit_port, record.transmit_udp),
        (RECEIVE, record.receive_port, record.receive_udp),
    ):
        options = {"remote_ip": "flow", "local_ip": "flow", "key": "0", "dst_port": str(udp), "tos": "inherit"}
        facts = {
            BACKEND: FLOW,
            ROLE: role,
            DECAPSULATION_ADDRESS: record.decapsulation_address,
            MAC: record.mac,
            CHANGED: " ".join(sorted(record.changed)),
        }
        command += ["--", "--may-exist", "add-port", bridge, port, "--", "set", "Port", port, f"tag={VLAN}"]
        command += [f'external_ids:{key}="{value}"' for key, value in facts.items()]
        command += ["--", "set", "Interface", port, "type=geneve"]
        command += [f"options:{key}={value}" for key, value in options.items()]
    if HWADDR in record.changed:
        command += ["--", "set", "Bridge", bridge, f'other_config:hwaddr="{record.mac}"']
    ovsdb.run(*command[1:])


def remove(ovsdb: Ovsdb, bridge: str, ports: list[str], release_mac: bool) -> None:
    """Remove the ports, and let Open vSwitch choose the bridge's MAC address again if it was fixed. Idempotent."""
    command = [word for port in ports for word in ("--", "--if-exists", "del-port", bridge, port)]
    if release_mac:
        command += ["--", "remove", "Bridge", bridge, "other_config", "hwaddr"]
    if command:
        ovsdb.run(*command[1:])


def fixed_mac(ovsdb: Ovsdb, bridge: str) -> str | None:
    """The MAC address that the bridge's configuration fixes, None if Open vSwitch chooses it."""
    (row,) = ovsdb.rows("--columns=other_config", "list", "Bridge", bridge)
    return dict(row["other_config"]).get("hwaddr")


def _ports(ovsdb: Ovsdb) -> list[tuple[str, str, dict[str, Any]]]:
    """(uuid, role, row) of every port of a flow backend, whatever its bridge."""
    found = []
    for row in ovsdb.rows("--columns=_uuid,name,external_ids", "find", "Port", f"external_ids:{BACKEND}={FLOW}"):
        row["external_ids"] = dict(row["external_ids"])
        found.append((row["_uuid"], row["external_ids"].get(ROLE, ""), row))
    return found


def _udp(ovsdb: Ovsdb, port: str) -> int:
    (row,) = ovsdb.rows("--columns=options", "find", "Interface", f"name={port}")
    return int(dict(row["options"])["dst_port"])
