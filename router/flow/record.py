# SPDX-License-Identifier: Apache-2.0
"""The `flow` backend as the OVS database has it: two ports, and what is known of them in their external_ids."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import NamedTuple

from router.ovsdb import MAC, VLAN, Ovsdb

BACKEND, ROLE, DECAPSULATION_ADDRESS, MTU, CHANGED = (
    "hoaflow-backend",
    "hoaflow-role",
    "hoaflow-decapsulation-address",
    "hoaflow-mtu",
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
    `mtu`: what a packet within the tunnels may have, in octets.
    `changed`: LINK if setup has set that interface up, HWADDR if it has fixed its MAC address.
    """

    transmit_port: str
    receive_port: str
    transmit_udp: int
    receive_udp: int
    decapsulation_address: str
    mac: str
    mtu: int
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


def plan(bridge: str, transmit_udp: int, receive_udp: int, mtu: int, mac: str, changed: frozenset[str]) -> FlowRecord:
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
        mtu,
        changed,
    )


class FlowPorts:
    """All flow backends that the OVS database holds, of the moment in which this was made."""

    def __init__(self, ovsdb: Ovsdb) -> None:
        """Raises RouterError when the database does not answer."""
        bridges, ports, interfaces = ovsdb.tables(
            ["--columns=name,ports,other_config", "list", "Bridge"],
            ["--columns=_uuid,name,external_ids", "find", "Port", f"external_ids:{BACKEND}={FLOW}"],
            ["--columns=name,options", "find", "Interface", "type=geneve"],
        )
        self._geneve = {row["name"]: int(dict(row["options"]).get("dst_port", GENEVE_UDP)) for row in interfaces}
        self._fixed_macs = {row["name"]: dict(row["other_config"]).get("hwaddr") for row in bridges}
        owners = {uuid: row["name"] for row in bridges for uuid in row["ports"]}
        self._ports: dict[str, dict[str, dict[str, str]]] = {}  # external_ids by bridge and port
        for row in ports:
            self._ports.setdefault(owners.get(row["_uuid"], ""), {})[row["name"]] = dict(row["external_ids"])

    def names(self, bridge: str) -> list[str]:
        """The bridge's ports that belong to a flow backend, even to half of one."""
        return list(self._ports.get(bridge, {}))

    def record(self, bridge: str) -> FlowRecord | None:
        """The bridge's backend; None without one, or with half of one, as a setup that was killed may leave it."""
        facts: dict[str, str] = {}
        names: dict[str, str] = {}
        for name, external_ids in self._ports.get(bridge, {}).items():
            facts |= external_ids
            names[external_ids.get(ROLE, "")] = name
        if names.keys() != {TRANSMIT, RECEIVE}:
            return None
        return FlowRecord(
            names[TRANSMIT],
            names[RECEIVE],
            self._geneve[names[TRANSMIT]],
            self._geneve[names[RECEIVE]],
            facts[DECAPSULATION_ADDRESS],
            facts[MAC],
            int(facts[MTU]),
            frozenset(facts[CHANGED].split()),
        )

    def other_bridge(self, bridge: str) -> str | None:
        """Another bridge that has the flow backend."""
        return next((owner for owner in sorted(self._ports) if owner not in ("", bridge)), None)

    def geneve_ports(self, udp: int) -> list[str]:
        """The names of all Geneve ports with this UDP port number, ours or not."""
        return [name for name, number in self._geneve.items() if number == udp]

    def fixed_mac(self, bridge: str) -> str | None:
        """The MAC address that the bridge's configuration fixes, None if Open vSwitch chooses it."""
        return self._fixed_macs.get(bridge)


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
            MTU: str(record.mtu),
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
