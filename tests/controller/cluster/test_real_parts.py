# SPDX-License-Identifier: Apache-2.0
"""All parts of a cluster at once, none of them played: etcd, controllers, bridge, tunnel agent, switch and packets."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridge import HOME_PREFIX, bridge
from tests.support.bridge_process import HomeAgent
from tests.support.cluster import Member
from tests.support.etcd import Etcd
from tests.support.logs import errors_in
from tests.support.ovs import Ovs
from tests.support.ping import echo
from tests.support.played_cluster import connect
from tests.support.router_agent import AgentProcess
from tests.support.router_lab import COA, COA_2, HOA, RouterLab
from tests.support.waiting import wait_for

LEASE = 60  # seconds, of bridge and agent: however busy the machine, another member is master before it ends


@pytest.fixture
def members(ovs: Ovs, tmp_path: Path) -> Iterator[list[Member]]:
    """Provide three controllers and their etcd."""
    with Etcd(tmp_path / "etcd", ovs=ovs) as etcd, contextlib.ExitStack() as started:
        made = [Member(ovs, tmp_path, number, etcd.endpoints, f"agent_lease = {LEASE}") for number in (1, 2, 3)]
        for member in made:
            started.callback(member.kill)
            member.start()
        yield made
    for member in made:
        member.assert_log_clean([])


@pytest.fixture
def home_agent(ovs: Ovs, members: list[Member], tmp_path: Path) -> Iterator[HomeAgent]:
    """Provide a home agent's binding cache that a bridge follows, which is told of one member alone."""
    with ovs.inside():
        made = HomeAgent()
    arguments = ["--home-prefix", HOME_PREFIX, "--console", f"127.0.0.1:{made.terminal.port}", "--no-netlink"]
    arguments += ["--lease", str(LEASE), "--poll", "0.1", "--controller", members[0].url]
    with bridge(*arguments, command=tuple(ovs.command())) as running:
        yield made
        assert errors_in("\n".join(running.lines)) == []
    made.terminal.close()


@pytest.fixture
def lab(ovs: Ovs, members: list[Member], tmp_path: Path) -> Iterator[RouterLab]:
    """Provide a router with the `route` backend, whose agent is told of one member alone."""
    with RouterLab(ovs) as made:
        made.setup()
        agent = AgentProcess(made, [members[1].url], tmp_path / "agent.log")
        agent.start()
        try:
            connect(ovs, made.bridge, *(member.openflow for member in members))
            yield made
        finally:
            agent.end()
        assert errors_in(agent.log()) == []


def is_active(members: list[Member], care_of_address: str) -> bool:
    """Tell whether the mobile node's packets go to a care-of address, by the word of a member that answers."""
    member = next(each for each in members if each.answers)
    answer = member.call("GET", f"/v1/bindings/{HOA}")
    return answer.status == 200 and (answer.body["care_of_address"], answer.body["state"]) == (
        care_of_address,
        "active",
    )


def test_the_master_is_killed_while_packets_go_direct(
    members: list[Member], home_agent: HomeAgent, lab: RouterLab
) -> None:
    """The home agent's node forwards nothing: what is answered has gone direct."""
    wait_for("packets go direct", lambda: is_active(members, COA), 60)
    (router,) = members[0].call("GET", "/v1/cluster").body["routers"]
    master = next(member for member in members if member.name == router["master"])
    others = [member for member in members if member is not master]
    begun = [len(member.events("router-connected")) for member in others]
    master.kill()
    while [len(member.events("router-connected")) for member in others] == begun:
        assert lab.run("cn", *echo(50, HOA)).strip() == "50", "no packet is lost while there is no master"
    assert lab.run("cn", *echo(50, HOA)).strip() == "50", "no packet is lost once there is one"

    lab.roam(COA_2)
    home_agent.move(HOA, COA_2)
    wait_for("the handover goes direct", lambda: is_active(members, COA_2), 60)
    assert " 0% packet loss" in lab.ping("cn", HOA)
