# SPDX-License-Identifier: Apache-2.0
"""What is done to a router's tunnel endpoint by others is noticed by the word that the kernel and the database give.

The agent here compares nothing by the clock: what no word comes of is never mended. No packet is sent by another path.
"""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hoaflow.router.database_changes import DatabaseChanges
from hoaflow.router.endpoint import TIN
from hoaflow.tunnel.changes import Changes
from hoaflow.tunnel.seg6 import Seg6Routes
from tests.support.checkout import CHECKOUT
from tests.support.fake_controller import FakeController
from tests.support.logs import errors_in
from tests.support.ovs import Ovs
from tests.support.router_lab import AGENT_BY_EVENTS, COA, DPID, HA, HOA, HOA4, TIMEOUT, RouterLab, sh, until


class Bound:
    """A lab whose agent has two bindings, HOA and HOA4 at COA, from a controller that is always there."""

    def __init__(self, lab: RouterLab, controller: FakeController, directory: Path) -> None:
        self.lab = lab
        self.controller = controller
        self.log_file = directory / "agent.log"

    def __enter__(self) -> Bound:
        arguments = ["run", "--bridge", self.lab.bridge, "--controller", f"http://127.0.0.1:{self.controller.port}"]
        options = [f"--db=unix:{self.lab.ovs.database}", "--log-addresses"]
        command = [sys.executable, "-c", AGENT_BY_EVENTS, *arguments, *options]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(self.lab.ovs.command(*command), stderr=log, stdout=log, cwd=CHECKOUT)
        self.controller.know(HA)
        for home_address in (HOA, HOA4):
            self.controller.bind(home_address, COA, HA)
        until(self.controller.up_to_date, "the binding is applied")
        until(self.lab.goes_direct, "packets go direct")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT)

    def log(self) -> str:
        return self.log_file.read_text()

    def announced(self) -> dict[str, str]:
        """Return the endpoint as last announced; empty without."""
        return next(iter(self.controller.last()["endpoints"]), {})


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bound]:
    with Ovs(tmp_path_factory.mktemp("ovs")) as ovs, RouterLab(ovs) as lab:
        lab.setup()
        lab.steer()
        with ovs.inside():
            controller = FakeController()
        with controller, Bound(lab, controller, ovs.directory) as running:
            yield running
        assert errors_in(running.log()) == []


def rt(bound: Bound, *arguments: str) -> None:
    """Run `ip ARGUMENTS` in the router's kernel."""
    bound.lab.ip("rt", *arguments)


def inside(bound: Bound, *command: str) -> None:
    """Run a command in the endpoint's namespace."""
    sh("ip", "netns", "exec", bound.lab.endpoint().namespace, *command)


def flap(bound: Bound) -> None:
    hfk = bound.lab.endpoint().kernel_port
    rt(bound, "link", "set", hfk, "down")
    rt(bound, "link", "set", hfk, "up")


def rename(bound: Bound) -> None:
    hfk = bound.lab.endpoint().kernel_port
    rt(bound, "link", "set", hfk, "down")
    rt(bound, "link", "set", hfk, "name", "elsewhere")
    rt(bound, "link", "set", "elsewhere", "up")


def bridge_anew(bound: Bound) -> None:
    """As who wants to begin anew does; the tests' own ports come back by hand."""
    lab = bound.lab
    lab.ovs.vsctl("del-br", lab.bridge)
    until(lambda: "no bridge" in bound.announced().get("problem", ""), "it is said that the bridge is missing")
    lab.ovs.add_bridge(lab.bridge, DPID)
    lab.connect()


# What is done, and what the agent says that it found.
DONE: dict[str, tuple[Callable[[Bound], object], str]] = {
    "link to the kernel deleted": (
        lambda b: rt(b, "link", "del", b.lab.endpoint().kernel_port),
        "link hfk-* is missing",
    ),
    "link to the kernel down and up": (flap, "address fe80::1/64 on hfk-* is missing"),
    "link to the kernel renamed": (rename, "link hfk-* is missing"),
    "tunnel port down": (lambda b: b.lab.ovs.run("ip", "link", "set", b.lab.endpoint().port, "down"), "hft-* is down"),
    "tunnel port's link deleted": (
        lambda b: b.lab.ovs.run("ip", "link", "del", b.lab.endpoint().port),
        "link hft-* is missing",
    ),
    "endpoint's namespace deleted": (
        lambda b: sh("ip", "netns", "del", b.lab.endpoint().namespace),
        "namespace hoaflow-* is missing",
    ),
    "endpoint's end down": (lambda b: inside(b, "ip", "link", "set", TIN, "down"), "link tin is down"),
    "routes flushed": (lambda b: inside(b, "ip", "-6", "route", "flush", "table", "101"), "of table 101"),
    "rules flushed": (lambda b: inside(b, "ip", "-6", "rule", "flush"), "rule 90"),
    "endpoint's filter flushed": (
        lambda b: inside(b, "nft", "flush", "ruleset"),
        "table ip6 hoaflow_kept_back is missing",
    ),
    "router's filter flushed": (lambda b: b.lab.run("rt", "nft", "flush", "ruleset"), "nftables table ip6 hoaflow-*"),
    "port deleted": (lambda b: b.lab.ovs.vsctl("del-port", b.lab.endpoint().port), "port hft-* is not on bridge"),
    "port's facts changed": (
        lambda b: b.lab.ovs.vsctl("clear", "Port", b.lab.endpoint().port, "external_ids"),
        "port hft-* has been changed",
    ),
    "port's VLAN removed": (
        lambda b: b.lab.ovs.vsctl("clear", "Port", b.lab.endpoint().port, "tag"),
        "port hft-* has been changed",
    ),
    "record removed": (
        lambda b: b.lab.ovs.vsctl("clear", "Open_vSwitch", ".", "external_ids"),
        "the database's record of the endpoint",
    ),
    "bridge deleted and added": (bridge_anew, "port hft-* is not on bridge"),
}


@pytest.mark.expected_ovs_log("Network is down", "No such device")
@pytest.mark.parametrize("what", DONE)
def test_what_others_do_makes_itself_heard_and_is_mended(bound: Bound, what: str) -> None:
    action, found = DONE[what]
    heard = len(bound.log())
    identity = bound.lab.endpoint().port.removeprefix("hft-")
    action(bound)
    until(
        lambda: any(
            "event=mended" in line and found.replace("*", identity) in line for line in bound.log()[heard:].splitlines()
        ),
        what,
    )
    until(bound.lab.goes_direct, f"packets go direct after {what}")
    until(lambda: bound.announced() and "problem" not in bound.announced(), "it is announced as well")


def test_a_bindings_route_that_others_remove_is_put_back(bound: Bound) -> None:
    namespace = bound.lab.endpoint().namespace
    inside(bound, "ip", "-6", "route", "del", HOA)
    with Seg6Routes(namespace) as routes:
        until(lambda: routes.installed() == {HOA: COA, HOA4: COA}, "the route is put back")


def test_a_restart_of_the_database_is_survived_and_what_happens_meanwhile_is_mended(bound: Bound) -> None:
    """What is missing in the database while it is away is not missed: the datapath goes on without it."""
    ovs, hfk = bound.lab.ovs, bound.lab.endpoint().kernel_port
    ovs.kill("ovsdb-server")
    until(lambda: 'state="unreadable' in bound.log(), "the agent says that the database is away")
    heard = len(bound.log())
    rt(bound, "link", "set", hfk, "down")
    until(lambda: f"link {hfk} is down" in bound.log()[heard:], "the kernel's part is mended all the same")
    assert "problem" not in bound.announced()
    ovs.start_database()
    rt(bound, "link", "set", hfk, "down")  # the next comparison is the one that finds the database again
    until(lambda: "event=database" in bound.log()[heard:] and "state=ok" in bound.log()[heard:], "it is back")
    ovs.vsctl("del-port", bound.lab.endpoint().port)
    until(lambda: "is not on bridge" in bound.log()[heard:], "its changes are heard again")
    until(bound.lab.goes_direct, "packets go direct")


def test_own_changes_are_told_from_others(bound: Bound) -> None:
    """Else each handover would be followed by a comparison of everything."""
    name = bound.lab.names["cn"]
    with Changes(name, own=False) as changes, Seg6Routes(name) as routes:
        assert routes.encapsulate_all({HOA: COA}, None, "c0") == {}
        assert not changes.drain()
        sh("ip", "-n", name, "-6", "route", "del", HOA)
        assert changes.drain()
        routes.encapsulate_all({HOA: COA}, None, "c0")
        sh("ip", "-n", name, "link", "set", "c0", "mtu", "1400")
        assert changes.drain()
        routes.remove(HOA)
    with Changes(name) as changes, Seg6Routes(name) as routes:
        routes.encapsulate_all({HOA: COA}, None, "c0")
        routes.remove(HOA)
        assert changes.drain()


def test_the_database_tells_of_ports_and_is_answered_when_it_asks_for_a_sign_of_life(bound: Bound) -> None:
    ovs = bound.lab.ovs
    remotes = "db:Open_vSwitch,Open_vSwitch,manager_options"
    control = str(ovs.directory / f"ovsdb-server.{(ovs.directory / 'ovsdb-server.pid').read_text().strip()}.ctl")
    ovs.run("ovs-appctl", f"--target={control}", "ovsdb-server/add-remote", remotes)
    ovs.vsctl("set-manager", "ptcp:6641:127.0.0.1", "--", "set", "Manager", ".", "inactivity_probe=100")
    changes = DatabaseChanges("tcp:127.0.0.1:6641")
    with ovs.inside():
        until(lambda: not connects(changes), "the database listens")
    for _ in range(3):  # one that is not answered is the last
        assert select.select(changes.sockets, [], [], TIMEOUT)[0]
        assert not changes.drain()
    ovs.vsctl("add-port", bound.lab.bridge, "another", "--", "set", "Interface", "another", "type=internal")
    until(changes.drain, "a new port is told")
    ovs.vsctl("del-manager")
    until(lambda: changes.drain() and not changes.sockets, "the end of the connection is a change, too")


def connects(changes: DatabaseChanges) -> str:
    """Try to follow; returns what is in the way."""
    try:
        changes.follow()
    except Exception as error:
        return str(error)
    return ""


def test_teardown_is_no_deleted_port(bound: Bound) -> None:
    """The last test: nothing is left of the endpoint."""
    heard = len(bound.log())
    bound.lab.router("teardown", "--bridge", bound.lab.bridge)
    until(lambda: bound.controller.last()["endpoints"] == [], "the agent says that no endpoint is left")
    assert "event=mended" not in bound.log()[heard:]
