# SPDX-License-Identifier: Apache-2.0
"""Make the `flow` backend on a bridge, and leave nothing of it. As router.setup: idempotent, undone when it fails."""

from __future__ import annotations

import os
from functools import partial

from router.errors import RouterError
from router.flow import device, record
from router.flow.kernel import TUNNEL_MAC, features
from router.flow.record import DEVICE, HWADDR, LINK, FlowPorts, FlowRecord
from router.flow.tc import Diversion, Ethernet, Hook, divert, undivert
from router.ovsdb import Bridge, Ovsdb
from router.packet_filter import flow_tables
from router.setup import Changes, Say
from tunnel import links


def why_not(bridge: Bridge, ports: FlowPorts) -> str | None:
    """Why this host cannot have the flow backend on this bridge, with what would help; None if it can."""
    # First: no use in asking for a datapath that this kernel has not.
    for feature in features():
        if feature.problem:
            return f"this kernel lacks {feature.what} ({feature.problem}): {feature.help}"
    if bridge.datapath_type not in ("", "system"):
        return (
            f"bridge {bridge.name} has the {bridge.datapath_type} datapath, and the tunnel needs the kernel's "
            f"(`ovs-vsctl set bridge {bridge.name} datapath_type=system`)"
        )
    if links.link(None, bridge.name) is None:
        return (
            f"bridge {bridge.name} has no interface in this network namespace: Open vSwitch and the router's kernel "
            f"have to be in one, and hoaflow-router run there"
        )
    owner = ports.other_bridge(bridge.name)
    if owner is not None:
        return f"bridge {owner} has the flow backend already, and a host has it once"
    return None


def setup(bridge: Bridge, ovsdb: Ovsdb, transmit_udp: int, receive_udp: int, mtu: int, say: Say) -> bool:
    """Make what is missing; False when all was there already. Raises RouterError after undoing what it did.

    `mtu`: what a packet within the tunnels may have, in octets.
    """
    ports = FlowPorts(ovsdb)
    _check(bridge, ports, transmit_udp, receive_udp)
    with Changes(say) as changes:
        mac, changed = _bridge_interface(bridge.name, ports, changes)
        wanted = record.plan(bridge.name, transmit_udp, receive_udp, mtu, mac, changed)
        _device(wanted, changes)
        _ports(wanted, bridge.name, ovsdb, ports.record(bridge.name), changes)
        _diversions(wanted, changes)
        for table in flow_tables(bridge.name):
            if table.put(None):
                changes.did(f"nftables table {table.family} {table.name}", partial(table.remove, None))
    return changes.count > 0


def repair(bridge: Bridge, ovsdb: Ovsdb, present: FlowRecord, say: Say) -> None:
    """Make anew what the kernel has lost (a reboot, a restart of Open vSwitch). Raises RouterError."""
    setup(bridge, ovsdb, present.transmit_udp, present.receive_udp, present.mtu, say)


def teardown(bridge: str, ovsdb: Ovsdb, say: Say) -> bool:
    """Remove the flow backend of a bridge; False when nothing of it was there. Raises RouterError."""
    recorded = FlowPorts(ovsdb)
    ports, present = recorded.names(bridge), recorded.record(bridge)
    changed: frozenset[str] = present.changed if present is not None else frozenset()
    if ports:
        # The system devices go with their ports, and the diversions with them.
        record.remove(ovsdb, bridge, ports, HWADDR in changed)
        say(f"ports {' '.join(ports)} removed from bridge {bridge}")
    elif recorded.other_bridge(bridge) is not None:
        return False
    removed = _device_is_ours() and links.remove_link(None, DEVICE)
    if removed:
        say(f"link {DEVICE} removed, with its address and diversion")
    for table in flow_tables(bridge):
        if table.remove(None):
            removed = True
            say(f"nftables table {table.family} {table.name} removed")
    if LINK in changed:
        links.set_down(None, bridge)
        say(f"link {bridge} down, as it was before setup")
    return bool(ports) or removed


def _device_is_ours() -> bool:
    try:
        return device.find() is not None
    except RouterError:
        return False


def _check(bridge: Bridge, ports: FlowPorts, transmit_udp: int, receive_udp: int) -> None:
    """Refuse, before anything is touched, what could not work."""
    present, mine = ports.record(bridge.name), ports.names(bridge.name)
    if os.geteuid() != 0:
        raise RouterError("setup needs root")
    if bridge.endpoints:
        raise RouterError(
            f"bridge {bridge.name} has the route backend (endpoints for "
            f"{', '.join(endpoint.home_agent for endpoint in bridge.endpoints)}): run teardown first"
        )
    reason = why_not(bridge, ports)
    if reason is not None:
        raise RouterError(f"the flow backend is not possible here: {reason}")
    if transmit_udp == receive_udp:
        raise RouterError(f"--transmit-udp and --receive-udp are both {transmit_udp}: two ports need two numbers")
    if present is not None and (present.transmit_udp, present.receive_udp) != (transmit_udp, receive_udp):
        raise RouterError(
            f"bridge {bridge.name} has the flow backend with UDP ports {present.transmit_udp} and "
            f"{present.receive_udp}, not {transmit_udp} and {receive_udp}: run teardown first"
        )
    for option, udp in (("--transmit-udp", transmit_udp), ("--receive-udp", receive_udp)):
        others = [port for port in ports.geneve_ports(udp) if port not in mine]
        if others:
            raise RouterError(
                f"UDP port {udp} is taken by Geneve port {others[0]}, which shares its system device "
                f"{record.system_device(udp)}: choose another number with {option}"
            )
        if not mine and links.link(None, record.system_device(udp)) is not None:
            raise RouterError(
                f"interface {record.system_device(udp)} exists although no Geneve port of Open vSwitch has UDP port "
                f"{udp}: remove it, or choose another number with {option}"
            )
    for key in ("all.forwarding", f"{bridge.name}.forwarding"):
        if links.sysctl(None, key) != "1":
            raise RouterError(
                f"the router's kernel does not forward IPv6, so what leaves the tunnel would be lost. Make it a "
                f"router: sysctl -w net.ipv6.conf.{key}=1 (interfaces that take router advertisements then need "
                f"accept_ra=2)"
            )
    if links.sysctl(None, f"{bridge.name}.disable_ipv6") != "0":
        raise RouterError(
            f"the bridge's own interface has no IPv6: sysctl -w net.ipv6.conf.{bridge.name}.disable_ipv6=0"
        )


def _bridge_interface(bridge: str, ports: FlowPorts, changes: Changes) -> tuple[str, frozenset[str]]:
    """The bridge's own interface up; its MAC address, which flows will name, one that stays.

    Returns that address, and what setup has changed of the bridge by now.
    """
    interface, present = links.link(None, bridge), ports.record(bridge)
    assert interface is not None, "checked before"
    changed = set(present.changed if present is not None else ())
    if links.set_up(None, bridge):
        # What is mended later was up before setup.
        if present is None:
            changed.add(LINK)
        changes.did(f"link {bridge} up", partial(links.set_down, None, bridge))
    # Open vSwitch takes another one when ports come and go.
    if ports.fixed_mac(bridge) is None:
        changed.add(HWADDR)
    return interface["mac"], frozenset(changed)


def _device(wanted: FlowRecord, changes: Changes) -> None:
    if device.find() is None:
        device.add()
        changes.did(f"link {DEVICE} added (ip6tnl, collect-metadata)", partial(links.remove_link, None, DEVICE))
    for key, value in (("disable_ipv6", "0"), ("addr_gen_mode", "1")):
        if links.set_sysctl(None, f"{DEVICE}.{key}", value):
            changes.did(f"net.ipv6.conf.{DEVICE}.{key} = {value}")
    if links.set_up(None, DEVICE):
        changes.did(f"link {DEVICE} up")
    if device.add_address(wanted.decapsulation_address):
        changes.did(f"decapsulation address {wanted.decapsulation_address} on {DEVICE}")


def _ports(wanted: FlowRecord, bridge: str, ovsdb: Ovsdb, present: FlowRecord | None, changes: Changes) -> None:
    ports = [wanted.transmit_port, wanted.receive_port]
    if present != wanted:
        undo = None if present is not None else partial(
            record.remove, ovsdb, bridge, ports, HWADDR in wanted.changed
        )  # fmt: skip
        try:
            record.add(ovsdb, bridge, wanted)
        except RouterError:
            # ovs-vsctl waits for the switch: the database may have the ports although this failed
            if undo is not None:
                undo()
            raise
        changes.did(f"ports {' '.join(ports)} on bridge {bridge}", undo)
    for port, name in ((wanted.transmit_port, wanted.transmit_device), (wanted.receive_port, wanted.receive_device)):
        state = ovsdb.port_state(port)
        if state.number is None:
            raise RouterError(f"Open vSwitch did not take port {port}: {state.error}")
        if links.link(None, name) is None:
            raise RouterError(
                f"port {port} is there, but its system device {name} is not in this network namespace: run "
                f"hoaflow-router where Open vSwitch runs"
            )


def diversions(wanted: FlowRecord) -> list[Diversion]:
    """The diversions that the backend consists of. Raises RouterError when a device is missing."""
    indexes = {}
    for name in (DEVICE, wanted.transmit_device, wanted.receive_device):
        found = links.link(None, name)
        if found is None:
            raise RouterError(f"interface {name} is missing")
        indexes[name] = found["index"]
    return [
        # mirred takes the Ethernet header off, as hoaflow6 carries none.
        Diversion(indexes[wanted.transmit_device], Hook.EGRESS, indexes[DEVICE], receive=False),
        Diversion(
            indexes[DEVICE],
            Hook.INGRESS,
            indexes[wanted.receive_device],
            receive=True,
            header=Ethernet(TUNNEL_MAC, TUNNEL_MAC),
        ),
    ]


def _diversions(wanted: FlowRecord, changes: Changes) -> None:
    for diversion, what in zip(
        diversions(wanted),
        (f"what leaves {wanted.transmit_device} goes to {DEVICE}", f"what {DEVICE} gets comes in at "
         f"{wanted.receive_device}"),
        strict=True,
    ):  # fmt: skip
        if divert(diversion):
            changes.did(f"tc: {what}", partial(undivert, diversion.interface, diversion.hook))
