# SPDX-License-Identifier: Apache-2.0
"""The `flow` backend as the OVS database has it: two ports, and what is known of them in their external_ids."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import NamedTuple

from hoaflow.router.ovsdb import MAC, MTU, Ovsdb

BACKEND, ROLE, DECAPSULATION_ADDRESS, UDP, CHANGED = (
    "hoaflow-backend",
    "hoaflow-role",
    "hoaflow-decapsulation-address",
    "hoaflow-udp",
    "hoaflow-changed",
)
FLOW, TRANSMIT, RECEIVE = "flow", "transmit", "receive"
TRANSMIT_UDP, RECEIVE_UDP = 6941, 6943  # defaults
GENEVE_UDP = "6081"  # where a Geneve port names none (IANA)
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

    @property
    def facts(self) -> dict[str, str]:
        """The external_ids of both ports, so that either of them is enough to know the other one from."""
        return {
            BACKEND: FLOW,
            DECAPSULATION_ADDRESS: self.decapsulation_address,
            UDP: f"{self.transmit_udp} {self.receive_udp}",
            MAC: self.mac,
            MTU: str(self.mtu),
            CHANGED: " ".join(sorted(self.changed)),
        }


def system_device(udp: int) -> str:
    """The device that Open vSwitch makes for all Geneve ports of a UDP port number."""
    return f"genev_sys_{udp}"


def plan(
    bridge: str, transmit_udp: int, receive_udp: int, mtu: int, mac: str, changed: frozenset[str] = frozenset()
) -> FlowRecord:
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


def port_names(bridge: str) -> set[str]:
    """The names of the bridge's two ports, wherever somebody may have moved them."""
    names = plan(bridge, 0, 0, 0, "")
    return {names.transmit_port, names.receive_port}


class FlowPorts:
    """All flow backends that the OVS database holds, of the moment in which this was made."""

    def __init__(self, ovsdb: Ovsdb) -> None:
        """Raises RouterError when the database does not answer."""
        bridges, ports, interfaces = ovsdb.tables(
            ["--columns=name,ports,other_config", "list", "Bridge"],
            ["--columns=_uuid,name,external_ids", "find", "Port", f"external_ids:{BACKEND}={FLOW}"],
            ["--columns=name,options", "find", "Interface", "type=geneve"],
        )
        self._geneve = {row["name"]: dict(row["options"]).get("dst_port", GENEVE_UDP) for row in interfaces}
        self._fixed_macs = {row["name"]: dict(row["other_config"]).get("hwaddr") for row in bridges}
        owners = {uuid: row["name"] for row in bridges for uuid in row["ports"]}
        self._ports: dict[str, dict[str, dict[str, str]]] = {}  # external_ids by bridge and port
        for row in ports:
            self._ports.setdefault(owners.get(row["_uuid"], ""), {})[row["name"]] = dict(row["external_ids"])

    def names(self, bridge: str) -> list[str]:
        """The bridge's ports that belong to a flow backend, even to half of one."""
        return list(self._ports.get(bridge, {}))

    def record(self, bridge: str, known: FlowRecord | None = None) -> FlowRecord | None:
        """The bridge's backend, of which one port is enough; None without one.

        Where the two ports' facts differ, those count that are `known`, else the transmit port's.
        """
        ports = sorted(self._ports.get(bridge, {}).values(), key=lambda facts: facts.get(ROLE) != TRANSMIT)
        found = [record for facts in ports if (record := self._read(bridge, facts)) is not None]
        return known if known in found else next(iter(found), None)

    def _read(self, bridge: str, facts: dict[str, str]) -> FlowRecord | None:
        """The record that a port's facts tell of; None where they are not all there."""
        try:
            names = plan(bridge, 0, 0, 0, "")
            # A former version has the numbers in the ports' options only.
            udp = facts.get(UDP) or f"{self._geneve[names.transmit_port]} {self._geneve[names.receive_port]}"
            mac, changed = facts[MAC], frozenset(facts[CHANGED].split())
            transmit_udp, receive_udp = map(int, udp.split())
            record = plan(bridge, transmit_udp, receive_udp, int(facts[MTU]), mac, changed)
        except (KeyError, ValueError):
            return None
        if HWADDR in changed:
            return record
        # The operator's own configuration fixes the address; without it, we do.
        fixed = self.fixed_mac(bridge)
        return record._replace(mac=fixed) if fixed else record._replace(changed=changed | {HWADDR})

    def other_bridge(self, bridge: str) -> str | None:
        """Another bridge that has the flow backend."""
        owners = sorted(owner for owner, ports in self._ports.items() if not ports.keys() <= port_names(bridge))
        return next((owner for owner in owners if owner not in ("", bridge)), None)

    def geneve_ports(self, udp: int) -> list[str]:
        """The names of all Geneve ports with this UDP port number, ours or not."""
        return [name for name, number in self._geneve.items() if number == str(udp)]

    def fixed_mac(self, bridge: str) -> str | None:
        """The MAC address that the bridge's configuration fixes, None if Open vSwitch chooses it."""
        return self._fixed_macs.get(bridge)
