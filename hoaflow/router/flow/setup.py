# SPDX-License-Identifier: Apache-2.0
"""Set up and tear down the `flow` backend of a bridge."""

from hoaflow.router.database_objects import DatabaseObject
from hoaflow.router.errors import RouterError
from hoaflow.router.flow import record
from hoaflow.router.flow.declaration import declaration
from hoaflow.router.flow.kernel import features
from hoaflow.router.flow.record import HWADDR, LINK, RECEIVE, TRANSMIT, FlowPorts, FlowRecord
from hoaflow.router.lock import alone
from hoaflow.router.ovsdb import Bridge, Ovsdb
from hoaflow.tunnel import links
from hoaflow.tunnel.declaration import Say, set_up, tear_down
from hoaflow.tunnel.objects import Up


def why_not(bridge: Bridge, ports: FlowPorts, family: int) -> str | None:
    """Return why this host cannot have the flow backend on this bridge, and what would help, or None if it can.

    `family`: of the outer headers.
    """
    # First, as a datapath that the kernel lacks cannot be configured.
    for feature in features():
        if feature.problem and feature.family in (None, family):
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
        return f"bridge {owner} has the flow backend, and a host has it once: run teardown for {owner} first"
    return None


def setup(bridge: Bridge, ovsdb: Ovsdb, wanted: FlowRecord, say: Say) -> bool:
    """Make what is missing; returns False if nothing was. Raises TunnelError after undoing what it made.

    `wanted`: UDP port numbers and MTU count, the rest follows.
    """
    with alone():
        ports = FlowPorts(ovsdb)
        check(bridge, ports, wanted)
        present = ports.record(bridge.name, family=wanted.family)
        wanted = _new(wanted, bridge.name, ports) if present is None else present._replace(mtu=wanted.mtu)
        return set_up(declaration(bridge.name, wanted, ovsdb), say) > 0


def teardown(bridge: str, ovsdb: Ovsdb, say: Say) -> bool:
    """Remove the flow backend of a bridge; returns False if nothing of it was there. Raises TunnelError."""
    with alone():
        ports = FlowPorts(ovsdb)
        if not ports.has(bridge) and ports.other_bridge(bridge) is not None:
            return False
        removed = 0
        for family in record.TRANSMIT_UDP:
            # Without a record the names are known, but not what the bridge was like before.
            present = ports.record(bridge, family=family) or record.names(bridge, family)
            declared = declaration(bridge, present, ovsdb)
            if not ports.has_any_of(present):
                if ports.has(bridge):
                    continue  # of the other family alone
                # Devices of these names may be somebody else's.
                declared = [each for each in declared if not isinstance(each, DatabaseObject | Up)]
            removed += tear_down(declared, say)
        return removed > 0


def _new(wanted: FlowRecord, bridge: str, ports: FlowPorts) -> FlowRecord:
    """Return the record for a bridge without one. It fixes the MAC address, which flows will refer to."""
    interface, fixed = links.link(None, bridge), ports.fixed_mac(bridge)
    assert interface is not None, "checked before"
    changed = {what for what, missing in ((LINK, not interface["up"]), (HWADDR, fixed is None)) if missing}
    return wanted._replace(mac=fixed or interface["mac"], changed=frozenset(changed))


def check(bridge: Bridge, ports: FlowPorts, wanted: FlowRecord) -> None:
    """Refuse what cannot work before anything is changed. Raises RouterError."""
    present, mine = ports.record(bridge.name, family=wanted.family), ports.has_any_of(wanted)
    transmit_udp, receive_udp = wanted.transmit_udp, wanted.receive_udp
    options = [f"--{role}-udp{'-ipv4' * wanted.is_ipv4}" for role in (TRANSMIT, RECEIVE)]
    if bridge.endpoints:
        raise RouterError(
            f"bridge {bridge.name} has the route backend (endpoints for "
            f"{', '.join(endpoint.home_agent for endpoint in bridge.endpoints)}): run teardown first"
        )
    reason = why_not(bridge, ports, wanted.family)
    if reason is not None:
        raise RouterError(f"the flow backend is not possible here: {reason}")
    if transmit_udp == receive_udp:
        raise RouterError(f"{' and '.join(options)} are both {transmit_udp}: two ports need two numbers")
    if present is not None and (present.transmit_udp, present.receive_udp) != (transmit_udp, receive_udp):
        raise RouterError(
            f"bridge {bridge.name} has the flow backend with UDP ports {present.transmit_udp} and "
            f"{present.receive_udp}, not {transmit_udp} and {receive_udp}: run teardown first"
        )
    for option, udp in zip(options, (transmit_udp, receive_udp), strict=True):
        mine_alone = {wanted.transmit_port, wanted.receive_port}
        others = [port for port in ports.geneve_ports(udp) if port not in mine_alone]
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
