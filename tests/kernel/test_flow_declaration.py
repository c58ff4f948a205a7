# SPDX-License-Identifier: Apache-2.0
"""Each object of the `flow` backend's declaration is taken away and changed: found, said, mended, packets pass.

The tests are made from the declaration itself, so a kind that nobody can break fails here. The agent's comparison runs
in this process; `test_flow_agent` has the agent itself. The home agent forwards nothing meanwhile, so what passes is
direct.
"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from controller.core.backends import FlowBackend
from hoaflow.addresses import parse_address
from hoaflow.router.database_objects import BridgePort, DatabaseRecord, FixedMac
from hoaflow.router.flow.declaration import declaration
from hoaflow.router.flow.keeper import FlowKeeper
from hoaflow.router.flow.objects import BridgeInterface, BridgeUp, Diverted, Roomy, TunnelDevice
from hoaflow.router.flow.record import DEVICE, FlowRecord
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.tunnel import links, nft
from hoaflow.tunnel.declaration import Declared, Difference, compare
from hoaflow.tunnel.namespace import in_namespace
from hoaflow.tunnel.objects import Free, HostSetting, IpAddress, Mac, NftTable, Setting, Up
from tests.kernel.lab import BRIDGE, HOA, TIMEOUT, FlowLab
from tests.support.router_lab import HOA4, sh, until

T = TypeVar("T")
OTHER_MAC, OTHER_BRIDGE = "02:00:00:00:00:99", "other"


class World:
    """The lab with the backend and a binding for each family, whose agent is this process."""

    def __init__(self, lab: FlowLab) -> None:
        self.lab = lab
        self.ovsdb = Ovsdb(f"unix:{lab.ovs.database}")
        self.keeper = FlowKeeper(self.ovsdb)

    def inside(self, function: Callable[[], T]) -> T:
        """Run in Open vSwitch's namespace, as the agent does."""
        return in_namespace(self.lab.names["rt"], function)

    def keep(self) -> str | None:
        """Compare and mend, as the agent does; returns what it could not mend."""

        def run() -> str | None:
            self.keeper.take(BRIDGE)
            self.keeper.keep(BRIDGE)
            problem = self.keeper.announcement().get("flow", {"problem": "no backend"}).get("problem")
            return None if problem is None else str(problem)

        return self.inside(run)

    def record(self) -> FlowRecord:
        (record,) = self.keeper.records
        return record

    def objects(self) -> list[Declared]:
        return declaration(BRIDGE, self.record(), self.ovsdb)

    def steer(self) -> None:
        """Put the flows of the bindings, as the controller would when the switch has a port under another number."""
        record = self.record()
        rows = self.ovsdb.rows("--columns=name,ofport", "find", "Interface", "type=geneve")
        numbers = {row["name"]: row["ofport"] for row in rows}
        ports = numbers[record.transmit_port], numbers[record.receive_port]
        decapsulation = parse_address(record.decapsulation_address)
        self.lab.offload(backend=FlowBackend(*ports, decapsulation, record.mac, record.mac, record.mtu))

    def differences(self) -> list[Difference]:
        """Return what is not as declared."""
        return self.inside(lambda: compare(self.objects()))

    def passes(self) -> bool:
        """Tell whether packets of both families pass both ways."""
        pings = [
            subprocess.Popen([*self.lab.enter("cn"), "ping", "-n", "-c1", "-W2", home], stdout=subprocess.DEVNULL)
            for home in (HOA, HOA4)
        ]
        return [ping.wait(TIMEOUT) for ping in pings] == [0, 0]


@pytest.fixture(scope="module")
def world(lab: FlowLab) -> Iterator[World]:
    lab.setup()
    lab.ovs.vsctl("add-br", OTHER_BRIDGE)
    lab.run("ha", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0", "net.ipv4.conf.all.forwarding=0")
    running = World(lab)
    try:
        assert running.keep() is None
        running.steer()
        until(running.passes, "packets pass")
        yield running
    finally:
        lab.run("ha", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.forwarding=1")
        lab.ovs.vsctl("del-br", OTHER_BRIDGE)
        lab.router("teardown", "--bridge", BRIDGE)
        lab.home()


def enslave(declared: Free) -> None:
    """Put the interface into a VRF; a tunnel device cannot be a bridge's port."""
    sh("ip", "link", "add", "thief", "type", "vrf", "table", "9")
    sh("ip", "link", "set", declared.name, "master", "thief")


def replace(declared: TunnelDevice) -> None:
    """By a tunnel device of another kind."""
    declared.remove()
    sh("ip", "link", "add", declared.name, "type", "ip6tnl", "local", "2001:db8::1", "remote", "2001:db8::2")


def let_be_source(declared: IpAddress) -> None:
    """Replace the address by one that may be chosen as a source."""
    dataclasses.replace(declared, no_source=False).make()


def divert_elsewhere(declared: Diverted) -> None:
    """To the bridge's own interface."""
    dataclasses.replace(declared, to=BRIDGE).make()


def add_rule(declared: NftTable) -> None:
    """Add a rule that drops everything."""
    nft.load(None, f"add rule {declared.table.family} {declared.table.name} untracked drop\n")


def set_down(declared: Up) -> None:
    links.change(None, declared.name, state="down")


def change_options(declared: BridgePort) -> None:
    """Another tunnel, which has no system device that anything is diverted from or to."""
    declared.ovsdb.run("set", "Interface", declared.name, "options:dst_port=7000", "options:tos=0")


def change_facts(declared: BridgePort) -> None:
    """Change what the port says of the backend, which the other port knows better."""
    declared.ovsdb.run(
        "set", "Port", declared.name, "tag=7", 'external_ids:hoaflow-mac=""', "external_ids:hoaflow-mtu=7"
    )


def move(declared: BridgePort) -> None:
    """To another bridge."""
    declared.remove()
    dataclasses.replace(declared, bridge=OTHER_BRIDGE).make()


# By kind, besides that it is taken away: what is done to it, and by whom.
BREAKS: dict[type, dict[str, Callable[..., object]]] = {
    DatabaseRecord: {"changed": lambda o: o.ovsdb.record(o.bridge, o.port, {**o.facts, "hoaflow-mtu": "7"})},
    BridgePort: {"options changed": change_options, "facts changed": change_facts, "moved": move},
    FixedMac: {"changed": lambda o: dataclasses.replace(o, mac=OTHER_MAC).make()},
    Mac: {"changed": lambda o: links.change(None, o.name, address=OTHER_MAC)},
    BridgeUp: {"changed": set_down},
    TunnelDevice: {"changed": replace},
    Free: {"changed": enslave},
    Setting: {"changed": lambda o: links.set_sysctl(None, o.key, "1" if o.value == "0" else "0")},
    Up: {},
    Roomy: {"changed": lambda o: links.change(None, o.name, mtu=1290)},
    IpAddress: {"changed": let_be_source},
    Diverted: {"changed": divert_elsewhere},
    NftTable: {"changed": add_rule},
}
# They go with the interface, or were there before: `remove` does nothing.
WITHOUT_REMOVAL = {Mac, BridgeUp, Free, Setting, Roomy}
CASES = [
    (kind, how) for kind in BREAKS for how in (*([] if kind in WITHOUT_REMOVAL else ["taken away"]), *BREAKS[kind])
]
# What can only be said: what somebody does, how it is undone, and what is said of it.
UNMENDABLE = {
    "forwarding off": (
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=1",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
    ),
    "somebody else's filter": (
        f"tc filter add dev {DEVICE} ingress pref 5 matchall action drop",
        f"tc filter del dev {DEVICE} ingress pref 5",
        f"tc at ingress of interface {DEVICE} belongs to someone else",
    ),
    "another device of the kind": (
        f"ip link set {DEVICE} down && ip link set {DEVICE} name theirs",
        "ip link del theirs",
        "the kernel has a collect-metadata ip6tnl device already",
    ),
}


def kinds(world: World) -> dict[type, list[Declared]]:
    """Return the declared objects by kind."""
    found: dict[type, list[Declared]] = {}
    for declared in world.objects():
        found.setdefault(type(declared), []).append(declared)
    return found


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines logged since the last call."""
    lines = [record.getMessage() for record in caplog.records if record.name == "hoaflow.router"]
    caplog.clear()
    return lines


@pytest.mark.parametrize(("kind", "how"), CASES, ids=[f"{kind.__name__} {how}" for kind, how in CASES])
def test_what_is_broken_is_found_and_mended_and_packets_pass(
    world: World, kind: type, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    for declared in kinds(world)[kind]:
        world.inside(declared.remove if how == "taken away" else lambda: BREAKS[kind][how](declared))  # noqa: B023
        assert world.keep() is None
        lines = said(caplog)
        # Open vSwitch puts back its interface's MAC address itself.
        assert len(lines) == 1 or (kind is Mac and not lines)
        assert all(line.startswith("event=mended") for line in lines), lines
        assert world.differences() == [], f"{declared} {how}, after {lines}"
        if kind is BridgePort:
            world.steer()
        until(world.passes, f"packets after {declared} {how}: {lines}")


@pytest.mark.parametrize(("damage", "repair", "reason"), UNMENDABLE.values(), ids=UNMENDABLE)
def test_what_cannot_be_mended_is_said_to_the_controller(
    world: World, damage: str, repair: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.lab.run("rt", "sh", "-c", damage)
    try:
        assert reason in (world.keep() or "")
        assert world.keep() is not None
        (line,) = said(caplog)
        assert line.startswith("event=broken")
    finally:
        world.lab.run("rt", *repair.split())
    assert world.keep() is None
    (line,) = said(caplog)
    assert line.startswith("event=mended")
    until(world.passes, f"packets after {repair}")


def test_every_kind_of_the_declaration_can_be_broken_here(world: World) -> None:
    assert kinds(world).keys() == BREAKS.keys() | {BridgeInterface, HostSetting}
