# SPDX-License-Identifier: Apache-2.0
"""Record the `flow` backend in the OVS database: in external_ids of its two ports, and of row Open_vSwitch."""

import hashlib
import ipaddress
from typing import NamedTuple

from hoaflow.router.ovsdb import BRIDGE, MAC, MTU, RECORDS, Ovsdb, records

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

# What setup may have changed of the bridge itself, for teardown to undo.
LINK, HWADDR = "link", "hwaddr"


class FlowRecord(NamedTuple):
    """A bridge's `flow` backend.

    `transmit_udp`, `receive_udp`: UDP port numbers that no other Geneve port has. `decapsulation_address`: the router's
    address at which its kernel decapsulates. `mac`: that of the bridge's own interface. `mtu`: the tunnels', in octets,
    without the outer header. `changed`: LINK if setup set that interface up, HWADDR if it fixed its MAC address.
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
        """The external_ids of each of the two ports, so that one of them tells the whole backend."""
        return {
            BACKEND: FLOW,
            DECAPSULATION_ADDRESS: self.decapsulation_address,
            UDP: f"{self.transmit_udp} {self.receive_udp}",
            MAC: self.mac,
            MTU: str(self.mtu),
            CHANGED: " ".join(sorted(self.changed)),
        }


def system_device(udp: int) -> str:
    """Return the name of the device that Open vSwitch makes for all Geneve ports of a UDP port number."""
    return f"genev_sys_{udp}"


def plan(
    bridge: str, transmit_udp: int, receive_udp: int, mtu: int, mac: str, changed: frozenset[str] = frozenset()
) -> FlowRecord:
    """Return the record for a bridge, whose names and decapsulation address depend only on the bridge's name.

    The decapsulation address is a unique local one (RFC 4193). It is not known outside the router: flows set it right
    before the kernel takes the packets.
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
    """Return the names of the bridge's two ports, wherever they may have been moved."""
    names = plan(bridge, 0, 0, 0, "")
    return {names.transmit_port, names.receive_port}


class FlowPorts:
    """All flow backends in the OVS database, as it was when this object was made."""

    def __init__(self, ovsdb: Ovsdb) -> None:
        """Read the database. Raises RouterError if it does not answer."""
        roots, bridges, ports, interfaces = ovsdb.tables(
            RECORDS,
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
        flow = (facts for facts in records(roots).values() if facts.get(BACKEND) == FLOW)
        self._recorded = {facts.get(BRIDGE, ""): facts for facts in flow}  # external_ids by bridge

    def has(self, bridge: str) -> bool:
        """Tell whether the bridge has a flow backend, even an incomplete one, or a record of one."""
        return bridge in self._ports or bridge in self._recorded

    def record(self, bridge: str, known: FlowRecord | None = None) -> FlowRecord | None:
        """Return the bridge's backend, of which one port or the record is enough; None without one.

        Where these differ, what is `known` counts, else the transmit port, the receive port, the record, in this order.
        """
        ports = sorted(self._ports.get(bridge, {}).values(), key=lambda facts: facts.get(ROLE) != TRANSMIT)
        facts = [*ports, *(recorded for owner, recorded in self._recorded.items() if owner == bridge)]
        found = [record for each in facts if (record := self._read(bridge, each)) is not None]
        return known if known in found else next(iter(found), None)

    def _read(self, bridge: str, facts: dict[str, str]) -> FlowRecord | None:
        """Return the record that a port's external_ids describe, or None if they are incomplete."""
        try:
            names = plan(bridge, 0, 0, 0, "")
            # Version 0.1 had these numbers only in the ports' options.
            udp = facts.get(UDP) or f"{self._geneve[names.transmit_port]} {self._geneve[names.receive_port]}"
            mac, changed = facts[MAC], frozenset(facts[CHANGED].split())
            transmit_udp, receive_udp = map(int, udp.split())
            record = plan(bridge, transmit_udp, receive_udp, int(facts[MTU]), mac, changed)
        except (KeyError, ValueError):
            return None
        if HWADDR in changed:
            return record
        # The address is fixed by the operator's configuration, or else by setup.
        fixed = self.fixed_mac(bridge)
        return record._replace(mac=fixed) if fixed else record._replace(changed=changed | {HWADDR})

    def other_bridge(self, bridge: str) -> str | None:
        """Return another bridge that has the flow backend, or None."""
        owners = {owner for owner, ports in self._ports.items() if not ports.keys() <= port_names(bridge)}
        return next((owner for owner in sorted(owners | self._recorded.keys()) if owner not in ("", bridge)), None)

    def geneve_ports(self, udp: int) -> list[str]:
        """Return the names of all Geneve ports with this UDP port number, ours and others."""
        return [name for name, number in self._geneve.items() if number == str(udp)]

    def fixed_mac(self, bridge: str) -> str | None:
        """Return the MAC address that the bridge's configuration fixes, or None if Open vSwitch chooses it."""
        return self._fixed_macs.get(bridge)
