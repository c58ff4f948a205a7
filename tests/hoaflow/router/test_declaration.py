# SPDX-License-Identifier: Apache-2.0
"""Each object of a tunnel endpoint's declaration is taken away, changed and doubled: found, mended, and packets pass.

The tests are made from the declaration itself, so a kind that nobody can break fails here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from hoaflow.client.access import Access
from hoaflow.linux import AF_INET6
from hoaflow.router import agent as agent_module
from hoaflow.router.agent import Agent
from hoaflow.router.database_objects import BridgePort, DatabaseRecord
from hoaflow.router.declaration import IcmpSource, declaration
from hoaflow.router.endpoint import ENDS_MTU, TOUT, Endpoint
from hoaflow.router.endpoint_routes import EndpointRoutes
from hoaflow.router.interruption import Interruption
from hoaflow.router.keeper import EndpointKeeper
from hoaflow.router.member import Acknowledge, Poll
from hoaflow.router.ovsdb import Bridge, Ovsdb
from hoaflow.router.record_upgrade import upgraded
from hoaflow.router.tunnel_plan import DesiredTunnels, Tunnel, TunnelList
from hoaflow.tunnel import links, nft
from hoaflow.tunnel.declaration import Declared, compare
from hoaflow.tunnel.namespace import Namespace, in_namespace
from hoaflow.tunnel.objects import (
    FixedNeighbour,
    Free,
    HostSetting,
    IpAddress,
    Mac,
    Mtu,
    NamedNamespace,
    NftTable,
    NoOffloads,
    OnlyAddresses,
    OnlyTables,
    Setting,
    Up,
    Veth,
)
from hoaflow.tunnel.routing import Decapsulation, LocalRoute, OnlyRoutes, OnlyRules, Route, Rule, TunnelSource
from hoaflow.tunnel.seg6 import Seg6Routes
from hoaflow.tunnel.tunnel_filter import TunnelMaps, TunnelProgram
from tests.support.ipv4_lab import COA4, HA4, HOMES, address4, goes_direct4, mobile_node4
from tests.support.ovs import Ovs
from tests.support.router_lab import COA, HA, HOA, HOA4, OTHER_HOA4, RouterLab, sh, until

T = TypeVar("T")
OTHER_MAC = "02:00:00:00:00:99"


def ip(namespace: Namespace, *arguments: str) -> None:
    """Run `ip ARGUMENTS` in a namespace."""
    in_namespace(namespace, lambda: sh("ip", *arguments))


def family(number: int) -> str:
    """Return the option of `ip` for an address family."""
    return "-6" if number == AF_INET6 else "-4"


def other_setting(declared: Setting) -> None:
    """Another value than the declared one."""
    links.set_sysctl(declared.namespace, declared.key, "1" if declared.value == "0" else "0", declared.protocol)


def rename(declared: Veth) -> None:
    """Another name for one end."""
    links.change(declared.namespace, declared.name, state="down")
    ip(declared.namespace, "link", "set", declared.name, "name", "elsewhere")


def change_port(declared: BridgePort) -> None:
    """Other facts in the database."""
    declared.ovsdb.run("set", "Port", declared.name, "external_ids:hoaflow-mac=none")


def change_record(declared: DatabaseRecord) -> None:
    """Something in its place that nobody can read."""
    declared.ovsdb.run("set", "Open_vSwitch", ".", f"external_ids:hoaflow-endpoint-{declared.port}=none")


def drop_all(declared: NftTable) -> None:
    """Insert a rule that drops everything, first in each of its hooked chains."""
    family, name = declared.table.family, declared.table.name
    command = ("nft", "-j", "list", "table", family, name)
    listed = json.loads(in_namespace(declared.namespace, lambda: sh(*command)))
    for chain in [entry["chain"]["name"] for entry in listed["nftables"] if "hook" in entry.get("chain", {})]:
        nft.load(declared.namespace, f"insert rule {family} {name} {chain} drop\n")


def enslave(declared: Free) -> None:
    """Make the interface a port of a bridge."""
    thief = f"br-{declared.name}"[:15]
    ip(declared.namespace, "link", "add", thief, "type", "bridge")
    ip(declared.namespace, "link", "set", declared.name, "master", thief)


def blackhole(declared: Route) -> None:
    """Add a better route for the same destination that leads nowhere."""
    where = ["table", str(declared.table), "metric", "1"]
    version = family(links.family_of(declared.destination))
    ip(declared.namespace, version, "route", "add", "blackhole", declared.destination, *where)


def shadow(declared: Rule | OnlyRules) -> None:
    """Add a rule before it that leads nowhere."""
    ip(declared.namespace, family(declared.family), "rule", "add", "blackhole", "pref", "7")


def second_default(declared: OnlyRoutes) -> None:
    """Add a route that is not declared."""
    number = str(declared.table)
    destination = "2001:db8::/32" if declared.family == AF_INET6 else "10.0.0.0/8"
    ip(declared.namespace, family(declared.family), "route", "add", "blackhole", destination, "table", number)


def second_table(declared: OnlyTables) -> None:
    """Add a table that drops everything."""
    chain = "type filter hook prerouting priority -500; policy drop;"
    nft.load(declared.namespace, f"table ip6 second {{\nchain everything {{\n{chain}\n}}\n}}\n")


def other_program(declared: TunnelProgram) -> None:
    """Another home agent's program in its place, without any binding."""
    declared.remove()
    dataclasses.replace(declared, own="10.77.0.1").make()


def second_filter(declared: TunnelProgram) -> None:
    """Add a filter that drops everything, before it."""
    drop = ["bpf", "direct-action", "bytecode", "1,6 0 0 2"]
    where = ["dev", declared.dev, "egress", "pref", "1", "handle", "7", "protocol", "all"]
    in_namespace(declared.namespace, lambda: sh("tc", "filter", "add", *where, *drop))


# By kind: how it is changed, and how it is doubled; None where there is no such thing.
Break = Callable[..., object] | None
BREAKS: dict[type, tuple[Break, Break]] = {
    NamedNamespace: (None, None),
    Veth: (rename, None),
    Mac: (lambda o: links.change(o.namespace, o.name, address=OTHER_MAC), None),
    Mtu: (lambda o: links.change(o.namespace, o.name, mtu=1290), None),
    Free: (enslave, None),
    Up: (lambda o: links.change(o.namespace, o.name, state="down"), None),
    IpAddress: (lambda o: ip(o.namespace, "addr", "flush", "dev", o.name), None),
    IcmpSource: (lambda o: ip(o.namespace, "addr", "flush", "dev", o.name), None),
    OnlyAddresses: (None, lambda o: links.add_address(o.namespace, o.name, "2001:db8:77::7", 128)),
    FixedNeighbour: (lambda o: links.add_neighbour(o.namespace, o.dev, o.address, OTHER_MAC), None),
    Setting: (other_setting, None),
    OnlyTables: (None, second_table),
    NftTable: (drop_all, drop_all),
    LocalRoute: (lambda o: o.remove(), None),
    Route: (lambda o: ip(o.namespace, *change_route(o)), blackhole),
    OnlyRoutes: (None, second_default),
    Rule: (lambda o: dataclasses.replace(o, table=77).make(), shadow),
    OnlyRules: (None, shadow),
    TunnelSource: (lambda o: dataclasses.replace(o, address="2001:db8:77::7").make(), None),
    Decapsulation: (lambda o: o.remove(), None),
    TunnelProgram: (other_program, second_filter),
    NoOffloads: (
        lambda o: in_namespace(o.namespace, lambda: sh("ethtool", "-K", o.name, "tx", "on", "rx", "on")),
        None,
    ),
    BridgePort: (change_port, None),
    DatabaseRecord: (change_record, None),
}


def change_route(declared: Route) -> list[str]:
    """Return the arguments of `ip` that make it lead nowhere."""
    version = family(links.family_of(declared.destination))
    metric = ["metric", "1024"] if version == "-6" else []
    return [version, "route", "replace", "blackhole", declared.destination, "table", str(declared.table), *metric]


class World:
    """A lab with an endpoint and bindings, whose agent is this process. `goes_direct`: whether their packets do."""

    def __init__(self, lab: RouterLab, desired: dict[str, str], goes_direct: Callable[[], bool]) -> None:
        self.lab = lab
        self.goes_direct = goes_direct
        self.ovsdb = Ovsdb(f"unix:{lab.ovs.database}")
        self.keeper = EndpointKeeper(self.ovsdb)
        self.desired = DesiredTunnels(desired, complete=True, changed=None)
        (record,) = self.inside(lambda: self.ovsdb.bridge(lab.bridge)).endpoints
        self.routes = EndpointRoutes(record)
        self.endpoint = Endpoint.of(lab.bridge, record)

    def inside(self, function: Callable[[], T]) -> T:
        """Run in Open vSwitch's namespace, as the agent does."""
        return in_namespace(self.lab.ovs.netns, function)

    def objects(self) -> list[Declared]:
        return self.inside(lambda: declaration(self.endpoint, True, self.ovsdb))

    def mend(self) -> str:
        """Compare and mend, as the agent does; returns what was found."""

        def run() -> str:
            found = "; ".join(text for _, text in compare(declaration(self.endpoint, True, self.ovsdb)))
            known = not found and not self.keeper.broken  # it would find nothing either
            if not known and self.keeper.keep(self.ovsdb.bridge(self.lab.bridge), True, lambda: None):
                self.routes.forget()
            assert self.keeper.broken == {}
            assert self.routes.apply(self.desired) == {}
            return found

        return self.inside(run)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Ovs(tmp_path_factory.mktemp("ovs")) as ovs, RouterLab(ovs) as lab:
        lab.setup()
        lab.ip("rt", "address", "add", "2001:db8:1::7/64", "dev", "lan", "nodad")
        running = World(lab, {HOA: COA, HOA4: COA}, lab.goes_direct)
        running.mend()
        until(running.goes_direct, "packets go direct")
        yield running


@pytest.fixture(scope="module")
def ipv4_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Provide an endpoint whose outer headers are IPv4."""
    with Ovs(tmp_path_factory.mktemp("ovs")) as ovs, RouterLab(ovs) as lab:
        lab.setup(home_agent=HA4)
        address4(lab)
        with mobile_node4(lab):
            running = World(lab, dict.fromkeys(HOMES, COA4), lambda: goes_direct4(lab))
            running.mend()
            until(running.goes_direct, "packets go direct")
            yield running


def kinds(world: World) -> dict[type, list[Declared]]:
    found: dict[type, list[Declared]] = {}
    for declared in world.objects():
        found.setdefault(type(declared), []).append(declared)
    return found


@pytest.mark.parametrize("how", ["taken away", "changed", "doubled"])
@pytest.mark.parametrize("kind", list(BREAKS), ids=lambda kind: kind.__name__)
def test_what_is_broken_is_found_and_mended_and_packets_pass(world: World, kind: type, how: str) -> None:
    break_and_mend(world, kind, how)


@pytest.mark.parametrize("how", ["taken away", "changed", "doubled"])
@pytest.mark.parametrize("kind", [TunnelProgram, FixedNeighbour, LocalRoute, Rule, NftTable], ids=lambda k: k.__name__)
def test_what_is_broken_of_an_ipv4_endpoint_is_found_and_mended(ipv4_world: World, kind: type, how: str) -> None:
    """What is the same as in the other endpoint is broken there."""
    break_and_mend(ipv4_world, kind, how)


@pytest.mark.parametrize(
    "command",
    [
        f"tc qdisc del dev {TOUT} clsact",
        f"tc qdisc del dev {TOUT} clsact && tc qdisc add dev {TOUT} ingress",
        "ip -4 rule flush && nft flush ruleset",
    ],
)
def test_what_one_command_sweeps_away_of_an_ipv4_endpoint_comes_back(ipv4_world: World, command: str) -> None:
    """With the tunnel program's qdisc its map goes, and with that all bindings."""
    in_namespace(ipv4_world.endpoint.namespace, lambda: sh("sh", "-c", command))
    assert ipv4_world.mend() != ""
    assert ipv4_world.mend() == ""
    until(ipv4_world.goes_direct, f"packets after {command}")


def test_entries_of_the_tunnel_program_are_compared_with_the_list(ipv4_world: World) -> None:
    with TunnelMaps(ipv4_world.endpoint.namespace, TOUT) as maps:
        maps.put_all({HOA4: "10.2.0.99", OTHER_HOA4: "10.2.0.99"})
        maps.remove_all([HOA])
        ipv4_world.routes.forget()
        ipv4_world.mend()
        ipv4_world.routes.tidy()
        assert OTHER_HOA4 in maps.installed(), "its packets may be under way"
        ipv4_world.routes.tidy()
        assert maps.installed() == ipv4_world.desired.tunnels
    until(ipv4_world.goes_direct, "packets go direct")


def break_and_mend(world: World, kind: type, how: str) -> None:
    change, double = BREAKS[kind]
    for declared in kinds(world).get(kind, []):
        action: Break = {"taken away": declared.remove, "changed": change, "doubled": double}[how]
        if action is None:
            continue
        world.inside(action if how == "taken away" else lambda: action(declared))  # noqa: B023
        found = world.mend()
        if (how == "taken away" and change is None and double is not None) or (kind in WITHOUT_REMOVAL and not found):
            continue  # taking it away is nothing
        assert found, f"{declared} {how}: nothing was found"
        assert world.mend() == "", f"{declared} {how}"
        until(world.goes_direct, f"packets after {declared} {how}: {found}")


@pytest.mark.parametrize(
    "command",
    [
        "ip -6 rule flush",
        "ip -4 rule flush",
        "ip -6 route flush table all",
        "nft flush ruleset",
        "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
    ],
)
def test_what_one_command_sweeps_away_comes_back(world: World, command: str) -> None:
    """The kernel's own routing rules, too."""
    in_namespace(world.endpoint.namespace, lambda: sh(*command.split()))
    assert world.mend() != ""
    assert world.mend() == ""
    until(world.lab.goes_direct, f"packets after {command}")


def test_what_changes_while_all_is_compared_is_compared_again_soon(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the agent may have looked at it before."""
    agent = Agent(["http://127.0.0.1:1"], Access(), world.lab.bridge, world.ovsdb, Interruption())
    keep = EndpointKeeper.keep

    def changed_at_the_end(
        keeper: EndpointKeeper, bridge: Bridge, database: bool, between: Callable[[], None]
    ) -> set[str]:
        kept = keep(keeper, bridge, database, between)
        sh("ip", "-n", world.endpoint.namespace, "-6", "rule", "flush")
        return kept

    def heard() -> bool:
        world.inside(agent._compare)
        return agent._watch.drain()

    with contextlib.closing(agent):
        heard()  # from now on it listens
        until(lambda: not heard(), "nothing changes")
        with monkeypatch.context() as patched:
            patched.setattr(EndpointKeeper, "keep", changed_at_the_end)
            assert heard()
        until(lambda: not heard(), "it is mended")
    until(world.lab.goes_direct, "packets go direct again")


def take_list(agent: Agent, listed: TunnelList) -> None:
    """Let an agent's controller grant its lease, and answer its poll."""
    now, members = time.monotonic(), agent._members
    assert members is not None
    for _ in range(2):
        for member, command in members.next(agent._announcement(), now):
            if isinstance(command, Acknowledge):
                members.acknowledged(member, command, 10.0, now)
            elif isinstance(command, Poll):
                members.polled(member, listed, now)


def test_a_change_that_comes_before_a_comparison_is_looked_at_soon_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Routes and pairs have a turn of their own: the comparison that took the word for known does not look at them."""
    for name in ("COMPARE", "LONGEST_COMPARE", "RESYNC"):
        monkeypatch.setattr(agent_module, name, 3600.0)
    agent = Agent(["http://127.0.0.1:1"], Access(), world.lab.bridge, world.ovsdb, Interruption())
    listed = TunnelList(1, True, frozenset({HA}), (Tunnel(HOA, COA, HA), Tunnel(HOA4, COA, HA)), ())

    def compared_if_due() -> bool:
        if due := time.monotonic() >= agent._compare_due:
            world.inside(agent._compare)
        return due

    with contextlib.closing(agent), Seg6Routes(world.endpoint.namespace) as routes:
        world.inside(agent._compare)
        take_list(agent, listed)
        until(lambda: not compared_if_due() and agent._compare_due > time.monotonic() + 60, "nothing is due for long")
        sh("ip", "-n", world.endpoint.namespace, "-6", "route", "del", HOA)
        world.inside(agent._compare)
        until(lambda: not compared_if_due() and routes.installed() == {HOA: COA, HOA4: COA}, "the route is back")
    until(world.lab.goes_direct, "packets go direct again")


def recorded_as_by_version_0_1(world: World) -> None:
    """Home agent, MAC address and namespace alone, and links as it made them."""
    record = world.endpoint.record
    world.ovsdb.forget(record.port)
    new = ["hoaflow-kernel-netns", "hoaflow-mtu", "hoaflow-icmp-sources"]
    world.ovsdb.run("remove", "Port", record.port, "external_ids", *new)
    for declared in kinds(world)[Mtu]:
        assert isinstance(declared, Mtu)
        if declared.mtu == ENDS_MTU:
            world.inside(lambda: links.change(declared.namespace, declared.name, mtu=1500))  # noqa: B023


def test_what_version_0_1_has_set_up_is_completed_and_mended(world: World) -> None:
    before = world.inside(lambda: world.ovsdb.bridge(world.lab.bridge))
    recorded_as_by_version_0_1(world)
    former = world.inside(lambda: world.ovsdb.bridge(world.lab.bridge))
    assert [record.mtu for record in former.endpoints] == [0]
    assert world.inside(lambda: upgraded(former)) == before
    assert world.inside(lambda: world.keeper.keep(upgraded(former), True, lambda: None)) == {HA}
    assert world.keeper.broken == {}
    assert world.inside(lambda: world.ovsdb.bridge(world.lab.bridge)) == before
    assert world.mend() == ""
    until(world.lab.goes_direct, "packets go direct")


def test_what_version_0_1_has_set_up_and_lost_is_said_with_what_to_do(world: World) -> None:
    recorded_as_by_version_0_1(world)
    world.lab.ip("rt", "link", "del", world.endpoint.kernel_port)
    former = world.inside(lambda: world.ovsdb.bridge(world.lab.bridge))
    world.inside(lambda: world.keeper.keep(upgraded(former), True, lambda: None))
    assert "run hoaflow-router setup again" in world.keeper.broken[HA]
    world.lab.setup()
    world.mend()
    until(world.lab.goes_direct, "packets go direct")


# They go with the interface or the namespace: `remove` does nothing.
WITHOUT_REMOVAL = {Mac, Mtu, Free, Setting, OnlyAddresses, OnlyTables, OnlyRoutes, OnlyRules, NoOffloads}


def test_every_kind_of_the_declaration_can_be_broken_here(world: World, ipv4_world: World) -> None:
    assert (kinds(world).keys() | kinds(ipv4_world).keys()) - {HostSetting} == BREAKS.keys()
