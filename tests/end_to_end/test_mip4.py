# SPDX-License-Identifier: Apache-2.0
"""The whole path with Mobile IPv4 in Mininet: home agent, foreign agents, mobile nodes, bridge, controller, agents."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.ping import echo, ping
from tests.support.waiting import wait_for
from topologies.deployment import HOME
from topologies.load import AnchorLoad
from topologies.mip4 import Mip4Topo
from topologies.mip4_deployment import Mip4Deployment
from topologies.testbed import Testbed


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Mip4Deployment]:
    with Testbed(Mip4Topo(), tmp_path / "logs") as bed:
        yield Mip4Deployment(bed, lease=20)  # seconds: with less, a busy machine may let it lapse
        assert not bed.errors()


def goes_direct(deployment: Mip4Deployment, link: int | str) -> bool:
    """Tell whether the controller has the home address's traffic go straight to a link, both ways."""
    return path_of(deployment, deployment.home_address) == ("active", deployment.care_of_address(link), True)


def path_of(deployment: Mip4Deployment, home_address: str) -> tuple[str, str, bool] | None:
    """Return a binding's state and care-of address, and whether it has a reverse tunnel."""
    found = deployment.binding_of(home_address)
    return (found["state"], found["care_of_address"], found["reverse_tunnel"]) if found else None


def answered(deployment: Mip4Deployment, home_address: str = Mip4Deployment.home_address) -> int:
    return int(deployment.bed.run(*echo(5, home_address), node="cn"))


def moves(deployment: Mip4Deployment, link: int | str) -> None:
    """Move the mobile node, and wait until its home agent has accepted that."""
    home_agent = deployment.bed.programs["home-agent"]
    since = home_agent.mark()
    deployment.attach(link)
    home_agent.wait_for(deployment.acknowledgement(link), 60, since)


def spoofed(deployment: Mip4Deployment) -> int:
    """Return how many packets the first foreign agent has dropped whose source is not the sender's."""
    words = deployment.bed.run("nft", "list", "counter", "ip", "hoaflow_fa", "spoofed", node="fa1").split()
    return int(words[words.index("packets") + 1])


def test_traffic_goes_direct_through_handover_and_death_of_the_home_agent_until_the_return_home(
    deployment: Mip4Deployment,
) -> None:
    bed = deployment.bed
    deployment.start_anchor()
    deployment.start_mobile_node()
    load = AnchorLoad(bed, deployment.anchor, deployment.home)
    moves(deployment, 1)
    before = load.packets()
    assert (answered(deployment), load.packets() - before) == (5, 10)

    # Care-of addresses of its own, and of two foreign agents.
    deployment.start_offload()
    for link in (1, "fa1", "fa2", 2, "fa1"):
        if link != 1:
            moves(deployment, link)
        wait_for(f"traffic goes direct on link {link}", partial(goes_direct, deployment, link))
        before = load.packets()
        assert (answered(deployment), load.packets() - before) == (5, 0), link
    found = deployment.binding()
    assert found is not None
    assert found["identification"] > 1 << 63  # seconds since 1900, as the mobile node has sent them

    # Another visitor of the same foreign agent sends in no tunnel, and nothing in the first one's name.
    other, own = deployment.other_home_address, deployment.home_address
    down_only = ("active", deployment.care_of_address("fa1"), False)
    deployment.start_other_mobile_node("--no-reverse-tunnel")
    bed.set_link("mn2", "mn2-home", up=False)
    bed.set_link("mn2", "mn2-a1", up=True)
    wait_for("the other's, too", lambda: path_of(deployment, other) == down_only)
    before = load.packets()
    assert (answered(deployment, other), answered(deployment), load.packets() - before) == (5, 5, 0)
    bed.run("ip", "address", "add", f"{own}/32", "dev", "lo", node="mn2")
    earlier = spoofed(deployment)
    forged = " ".join(ping(2, 0.5, "-q", "-I", own, deployment.correspondent))
    assert " 0 received" in bed.run("sh", "-c", f"{forged} || true", node="mn2")
    assert spoofed(deployment) == earlier + 2
    bed.run("ip", "address", "del", f"{own}/32", "dev", "lo", node="mn2")

    bed.kill("home-agent")
    deployment.set_anchor_link(up=False)
    assert (answered(deployment), answered(deployment, other)) == (5, 5)
    deployment.set_anchor_link(up=True)
    deployment.start_anchor()
    assert answered(deployment) == 5  # the home agent knows nothing of the binding
    moves(deployment, HOME)
    wait_for("the binding is gone", lambda: deployment.binding() is None)
    assert answered(deployment) == 5
