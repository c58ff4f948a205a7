# SPDX-License-Identifier: Apache-2.0
"""What comparing the home agent's declaration costs signalling: slices, and no comparison for its own changes."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from hoaflow.home_agent.declaration import declaration
from hoaflow.home_agent.parts import open_parts
from hoaflow.home_agent.settings import check, parser
from hoaflow.mobility.tunnels import Tunnels
from hoaflow.mobility.upkeep import Upkeep
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared, compared, set_up
from hoaflow.tunnel.namespace import in_namespace
from hoaflow.tunnel.spoofing_filter import SpoofingFilter
from topologies.waiting import patient

NAMESPACE, BINDINGS = "hoaflow-upkeep", 400
OPTIONS = ["--insecure", "--home-agent", "2001:db8:99::1", "--home-prefix", "2001:db8:99::/64", "--home-link", "hl"]


class Kept(NamedTuple):
    """A home agent's part of the kernel, made and found to be as declared."""

    declaration: list[Declared]
    tunnels: Tunnels
    upkeep: Upkeep


def run(*command: str) -> None:
    """Run a command."""
    subprocess.run(command, check=True, capture_output=True, timeout=120)


@pytest.fixture
def namespace() -> Iterator[str]:
    """Provide a namespace with a home link and a way out."""
    run("ip", "netns", "add", NAMESPACE)
    try:
        # Its end is the kernel's report of a change, a second after the link came up.
        run("ip", "netns", "exec", NAMESPACE, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        for one, other, address in (("hl", "h0", "2001:db8:99::1/64"), ("u0", "u1", "2001:db8:10::2/64")):
            run("ip", "-n", NAMESPACE, "link", "add", one, "type", "veth", "peer", "name", other)
            for each in (one, other):
                run("ip", "-n", NAMESPACE, "link", "set", each, "up")
            run("ip", "-n", NAMESPACE, "address", "add", address, "dev", one, "nodad")
        run("ip", "-n", NAMESPACE, "-6", "route", "add", "default", "via", "2001:db8:10::1")
        yield NAMESPACE
    finally:
        run("ip", "netns", "del", NAMESPACE)


def kept(use: Callable[[Kept], None]) -> None:
    """Call `use` with a home agent's part of the current namespace."""
    settings = check(parser().parse_args(OPTIONS))
    with ExitStack() as opened:
        parts = open_parts(settings, opened)
        tunnels, wanted = parts.tunnels, declaration(settings.policy, parts, lambda: None)
        set_up(wanted, lambda _: None)
        for number in range(1, BINDINGS + 1):
            tunnels.tunnel(f"2001:db8:99::1:{number:x}", f"2001:db8:2::{number:x}")
        upkeep = Upkeep(wanted, lambda: tunnels.ports)
        opened.callback(upkeep.close)
        use(Kept(wanted, tunnels, upkeep))


def work_off(upkeep: Upkeep) -> int:
    """Work until the comparison is over; returns in how many slices."""
    upkeep.read_changes()
    upkeep.due, slices = 0.0, 0
    while upkeep.due == 0.0:
        upkeep.run_slice()
        slices += 1
    assert upkeep.broken is None
    return slices


def test_a_comparison_of_many_bindings_stops_again_and_again(namespace: str) -> None:
    def use(home_agent: Kept) -> None:
        with ActualState() as actual:
            few = len(home_agent.declaration)
            pauses = sum(1 for _ in compared(home_agent.declaration, actual))
        assert pauses >= few + 3 * BINDINGS / 100  # pairs and two kinds of routes, or devices

    in_namespace(namespace, lambda: kept(use))


def test_own_changes_cause_no_comparison_but_those_of_others_do(namespace: str) -> None:
    def use(home_agent: Kept) -> None:
        upkeep, tunnels = home_agent.upkeep, home_agent.tunnels
        work_off(upkeep)
        due = upkeep.due
        for number in range(1, BINDINGS + 1):
            with upkeep.own_changes():
                tunnels.tunnel(f"2001:db8:99::1:{number:x}", f"2001:db8:3::{number:x}")
        with upkeep.own_changes():
            tunnels.untunnel("2001:db8:99::1:1")
        upkeep.read_changes()
        assert upkeep.due == due
        for command in (
            ("ip", "-6", "route", "del", "2001:db8:99::1:2", "proto", "16"),
            ("nft", "flush", "set", "ip6", "hoaflow", "pairs_41"),
        ):
            work_off(upkeep)
            due = upkeep.due
            run(*command)
            assert select.select(upkeep.changes.sockets, [], [], patient(10))[0]
            upkeep.read_changes()
            assert upkeep.due < due
        work_off(upkeep)
        assert len(SpoofingFilter().installed()) == BINDINGS - 1

    in_namespace(namespace, lambda: kept(use))
