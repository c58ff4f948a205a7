# SPDX-License-Identifier: Apache-2.0
"""Record the `flow` backend in the OVS database: in external_ids of its ports, and of row Open_vSwitch.

A bridge has one record for each family of outer headers that it tunnels with.
"""

import hashlib
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from hoaflow.linux import AF_INET, AF_INET6
from hoaflow.router.endpoint import KERNEL_SIDE_IPV4
from hoaflow.router.ovsdb import BRIDGE, MAC, MTU, RECORDS, Ovsdb, records

BACKEND, ROLE, DECAPSULATION_ADDRESS, UDP, CHANGED = (
    "hoaflow-backend",
    "hoaflow-role",
    "hoaflow-decapsulation-address",
    "hoaflow-udp",
    "hoaflow-changed",
)
FLOW, TRANSMIT, RECEIVE = "flow", "transmit", "receive"
# Defaults, by the outer headers' family.
TRANSMIT_UDP, RECEIVE_UDP = {AF_INET6: 6941, AF_INET: 6942}, {AF_INET6: 6943, AF_INET: 6944}
GENEVE_UDP = "6081"  # where a Geneve port names none (IANA)
DEVICE = "hoaflow6"  # the collect-metadata ip6tnl
# The collect-metadata ipip devices: one decapsulates, and one encapsulates.
DEVICE_IPV4, SENDER_IPV4 = "hoaflow4", "hoaflow4s"

# What setup may have changed of the bridge itself, for teardown to undo.
LINK, HWADDR = "link", "hwaddr"


class FlowRecord(NamedTuple):
    """A bridge's `flow` backend for outer headers of one family.

    `transmit_udp`, `receive_udp`: UDP port numbers that no other Geneve port has. `decapsulation_address`: the router's
    address at which its kernel decapsulates, of the outer headers' family. `mac`: that of the bridge's own interface.
    `mtu`: the tunnels', in octets, without the outer header. `changed`: LINK if setup set that interface up, HWADDR if
    it fixed its MAC address.
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
    def is_ipv4(self) -> bool:
        """Whether the outer headers are IPv4."""
        return ":" not in self.decapsulation_address

    @property
    def family(self) -> int:
        """The outer headers' address family."""
        return AF_INET if self.is_ipv4 else AF_INET6

    @property
    def device(self) -> str:
        """The tunnel device that decapsulates."""
        return DEVICE_IPV4 if self.is_ipv4 else DEVICE

    @property
    def sender(self) -> str:
        """The tunnel device that encapsulates."""
        return SENDER_IPV4 if self.is_ipv4 else DEVICE

    @property
    def namespace(self) -> str:
        """The namespace where IPv4 outer packets are routed first; IPv6 has none."""
        return f"hoaflow-{self._id}" if self.is_ipv4 else ""

    @property
    def kernel_port(self) -> str:
        """The veth end, in the router's kernel, of the link to that namespace."""
        return f"hfk-{self._id}"

    @property
    def _id(self) -> str:
        return self.transmit_port.rpartition("-")[2]

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
    bridge: str,
    transmit_udp: int,
    receive_udp: int,
    mtu: int,
    mac: str,
    changed: frozenset[str] = frozenset(),
    family: int = AF_INET6,
) -> FlowRecord:
    """Return the record for a bridge, whose names and decapsulation address depend only on bridge and `family`.

    The decapsulation address is not known outside the router: flows set it right before the kernel takes the packets.
    It is a unique local one (RFC 4193), or the dummy address of nodes without an IPv4 one (RFC 7600).
    """
    digest = hashlib.sha256(f"{bridge} flow{' IPv4' * (family == AF_INET)}".encode()).digest()
    groups = [f"fd{digest[5]:02x}", digest[6:8].hex(), digest[8:10].hex()]
    unique_local = str(ipaddress.IPv6Address(":".join(groups) + "::41"))
    return FlowRecord(
        f"hfx-{digest[:5].hex()}",
        f"hfr-{digest[:5].hex()}",
        transmit_udp,
        receive_udp,
        KERNEL_SIDE_IPV4 if family == AF_INET else unique_local,
        mac,
        mtu,
        changed,
    )


def names(bridge: str, family: int) -> FlowRecord:
    """Return a record of which the names alone count."""
    return plan(bridge, TRANSMIT_UDP[family], RECEIVE_UDP[family], 0, "", family=family)


def port_names(bridge: str) -> set[str]:
    """Return the names of the bridge's ports, wherever they may have been moved."""
    found = [names(bridge, family) for family in TRANSMIT_UDP]
    return {port for each in found for port in (each.transmit_port, each.receive_port)}


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
        self._recorded: dict[str, dict[str, dict[str, str]]] = {}  # the same of what is recorded
        for name, facts in records(roots).items():
            if facts.get(BACKEND) == FLOW:
                self._recorded.setdefault(facts.get(BRIDGE, ""), {})[name] = facts

    def has(self, bridge: str) -> bool:
        """Tell whether the bridge has a flow backend, even an incomplete one, or a record of one."""
        return bridge in self._ports or bridge in self._recorded

    def has_any_of(self, record: FlowRecord) -> bool:
        """Tell whether there is anything of a record with these names."""
        mine = {record.transmit_port, record.receive_port}
        found = (*self._ports.values(), *self._recorded.values())
        return any(not mine.isdisjoint(by_port) for by_port in found)

    def records(self, bridge: str, known: Iterable[FlowRecord] = ()) -> list[FlowRecord]:
        """Return the bridge's backend, a record for each family of outer headers; see `record` for what is `known`."""
        by_family = {each.family: each for each in known}
        found = (self.record(bridge, by_family.get(family), family) for family in TRANSMIT_UDP)
        return [record for record in found if record is not None]

    def record(self, bridge: str, known: FlowRecord | None = None, family: int = AF_INET6) -> FlowRecord | None:
        """Return the bridge's backend for outer headers of a family; one port or the record is enough; None without.

        Where these differ, what is `known` counts, else the transmit port, the receive port, the record, in this order.
        """
        own = names(bridge, family)
        by_port = (self._ports.get(bridge, {}), self._recorded.get(bridge, {}))
        found = [
            record
            for place, name in (
                *((by_port[0], port) for port in (own.transmit_port, own.receive_port)),
                (by_port[1], own.transmit_port),
            )
            if name in place and (record := self._read(bridge, place[name], own)) is not None
        ]
        return known if known in found else next(iter(found), None)

    def _read(self, bridge: str, facts: dict[str, str], own: FlowRecord) -> FlowRecord | None:
        """Return the record that a port's external_ids describe, or None if they are incomplete."""
        try:
            # Version 0.1 had these numbers only in the ports' options.
            udp = facts.get(UDP) or f"{self._geneve[own.transmit_port]} {self._geneve[own.receive_port]}"
            mac, changed = facts[MAC], frozenset(facts[CHANGED].split())
            transmit_udp, receive_udp = map(int, udp.split())
            record = plan(bridge, transmit_udp, receive_udp, int(facts[MTU]), mac, changed, own.family)
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
