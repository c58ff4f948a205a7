# SPDX-License-Identifier: Apache-2.0
"""What the `flow` backend's two ports in the database tell of it, when somebody has been at one of them."""

from __future__ import annotations

import pytest

from hoaflow.linux import AF_INET
from hoaflow.router.cli import main
from hoaflow.router.database_objects import BridgePort, DatabaseRecord
from hoaflow.router.flow.declaration import declaration
from hoaflow.router.flow.record import HWADDR, FlowPorts, FlowRecord, plan
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.namespace import in_namespace
from hoaflow.tunnel.objects import HostSetting
from tests.support.ovs import Ovs

BRIDGE = "br0"
RECORD = plan(BRIDGE, 6941, 6943, 1460, "02:00:00:00:00:0b", frozenset({HWADDR}))


@pytest.fixture
def ports(ovs: Ovs) -> list[BridgePort]:
    """Return both ports, transmit port first, as setup writes them."""
    ovs.add_bridge(BRIDGE, 1)
    ovsdb = Ovsdb(f"unix:{ovs.database}")
    found = [each for each in declaration(BRIDGE, RECORD, ovsdb) if isinstance(each, BridgePort)]
    for port in found:
        put(ovs, port)
    return found


def put(ovs: Ovs, port: BridgePort, bridge: str = BRIDGE) -> None:
    """Write a port down. Its system device is made on the kernel's datapath only."""
    facts = [f'external_ids:{key}="{value}"' for key, value in port.facts.items()]
    tunnel = [f"options:{key}={value}" for key, value in port.options.items()]
    ovs.vsctl(
        *("add-port", bridge, port.name, "--", "set", "Port", port.name, *facts),
        *("--", "set", "Interface", port.name, "type=geneve", *tunnel),
    )


def test_each_family_has_its_own_record(ovs: Ovs, ports: list[BridgePort]) -> None:
    ovsdb = Ovsdb(f"unix:{ovs.database}")
    ipv4 = plan(BRIDGE, 6942, 6944, 1480, RECORD.mac, RECORD.changed, AF_INET)
    transmit, receive = (each for each in declaration(BRIDGE, ipv4, ovsdb) if isinstance(each, BridgePort))
    put(ovs, receive)
    assert FlowPorts(ovsdb).records(BRIDGE) == [RECORD, ipv4]
    assert not {port.name for port in ports} & {transmit.name, receive.name}
    ovs.vsctl("del-port", receive.name)
    assert FlowPorts(ovsdb).records(BRIDGE) == [RECORD]


def record(ovs: Ovs, known: FlowRecord | None = None) -> FlowRecord | None:
    """Return the backend as read from the database."""
    return FlowPorts(Ovsdb(f"unix:{ovs.database}")).record(BRIDGE, known)


@pytest.mark.parametrize("gone", [0, 1])
def test_either_port_tells_of_the_whole_backend(ovs: Ovs, ports: list[BridgePort], gone: int) -> None:
    assert record(ovs) == RECORD
    ovs.vsctl("del-port", ports[gone].name)
    assert record(ovs) == RECORD
    ovs.vsctl("del-port", ports[1 - gone].name)
    assert record(ovs) is None


def test_both_ports_deleted_at_once_are_no_teardown(ovs: Ovs, ports: list[BridgePort]) -> None:
    ovsdb = Ovsdb(f"unix:{ovs.database}")
    (recorded,) = (each for each in declaration(BRIDGE, RECORD, ovsdb) if isinstance(each, DatabaseRecord))
    recorded.make()
    ovs.vsctl("del-port", ports[0].name, "--", "del-port", ports[1].name)
    assert record(ovs) == RECORD
    ovs.vsctl("del-br", BRIDGE)
    ovs.add_bridge(BRIDGE, 1)
    assert record(ovs) == RECORD
    assert FlowPorts(ovsdb).other_bridge("third") == BRIDGE
    with ActualState() as actual:
        assert recorded.difference(actual) is None
    assert recorded.remove()
    assert record(ovs) is None
    assert not FlowPorts(ovsdb).has(BRIDGE)


def test_what_a_deleted_bridge_has_left_can_be_torn_down(ovs: Ovs, ports: list[BridgePort]) -> None:
    ovsdb = Ovsdb(f"unix:{ovs.database}")
    (recorded,) = (each for each in declaration(BRIDGE, RECORD, ovsdb) if isinstance(each, DatabaseRecord))
    recorded.make()
    ovs.vsctl("del-br", BRIDGE)
    assert in_namespace(ovs.netns, lambda: main(["teardown", "--bridge", BRIDGE, f"--db=unix:{ovs.database}"])) == 0
    assert not FlowPorts(ovsdb).has(BRIDGE)
    assert in_namespace(ovs.netns, lambda: main(["teardown", "--bridge", BRIDGE, f"--db=unix:{ovs.database}"])) == 1


@pytest.mark.parametrize("changed", [0, 1])
def test_of_two_that_differ_the_one_is_believed_that_was_known(ovs: Ovs, ports: list[BridgePort], changed: int) -> None:
    ovs.vsctl("set", "Port", ports[changed].name, "external_ids:hoaflow-mtu=1400")
    assert record(ovs, known=RECORD) == RECORD
    ovs.vsctl("set", "Port", ports[1 - changed].name, "external_ids:hoaflow-mtu=1400")
    assert record(ovs, known=RECORD) == RECORD._replace(mtu=1400), "setup writes both"


def test_forwarding_that_is_off_is_named_with_its_family() -> None:
    settings = [each for each in declaration(BRIDGE, RECORD, Ovsdb("unix:none")) if isinstance(each, HostSetting)]
    (forwarding,) = {each.consequence for each in settings if each.key.endswith(".forwarding")}
    assert "does not forward IPv6, so" in forwarding


def test_facts_that_nobody_can_read_do_not_count(ovs: Ovs, ports: list[BridgePort]) -> None:
    ovs.vsctl("set", "Port", ports[0].name, "external_ids:hoaflow-mtu=none")
    assert record(ovs) == RECORD
    ovs.vsctl("set", "Port", ports[1].name, "external_ids:hoaflow-udp=none")
    assert record(ovs) is None


def test_what_version_0_1_has_set_up_is_known(ovs: Ovs, ports: list[BridgePort]) -> None:
    for port in ports:
        ovs.vsctl("remove", "Port", port.name, "external_ids", "hoaflow-udp")
    assert record(ovs) == RECORD


def test_a_mac_address_that_the_operator_fixes_anew_is_followed(ovs: Ovs, ports: list[BridgePort]) -> None:
    for port in ports:
        ovs.vsctl("set", "Port", port.name, 'external_ids:hoaflow-changed=""')
    ovs.vsctl("set", "Bridge", BRIDGE, 'other_config:hwaddr="02:00:00:00:00:0c"')
    assert record(ovs) == RECORD._replace(mac="02:00:00:00:00:0c", changed=frozenset())
    ovs.vsctl("remove", "Bridge", BRIDGE, "other_config", "hwaddr")
    assert record(ovs) == RECORD, "then setup fixes it"


def test_a_port_on_another_bridge_is_still_this_bridges(ovs: Ovs, ports: list[BridgePort]) -> None:
    ovs.vsctl("del-port", ports[0].name)
    ovs.add_bridge("other", 2)
    put(ovs, ports[0], "other")
    found = FlowPorts(Ovsdb(f"unix:{ovs.database}"))
    assert found.record(BRIDGE) == RECORD
    assert found.other_bridge(BRIDGE) is None
    assert found.other_bridge("third") == BRIDGE
