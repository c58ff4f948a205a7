# SPDX-License-Identifier: Apache-2.0
"""The whole path with Mobile IPv4 in Mininet: home agent, mobile node, bridge, controller, agents, all of them real."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.ping import echo
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


def goes_direct(deployment: Mip4Deployment, link: int) -> bool:
    """Tell whether the controller has the home address's traffic go straight to a link, both ways."""
    found = deployment.binding()
    wanted = ("active", deployment.care_of_address(link), True)
    return bool(found and (found["state"], found["care_of_address"], found["reverse_tunnel"]) == wanted)


def answered(deployment: Mip4Deployment, count: int = 5) -> int:
    return int(deployment.bed.run(*echo(count, deployment.home_address), node="cn"))


def moves(deployment: Mip4Deployment, link: int | str) -> None:
    """Move the mobile node, and wait until its home agent has accepted that."""
    home_agent = deployment.bed.programs["home-agent"]
    since = home_agent.mark()
    deployment.attach(link)
    home_agent.wait_for(deployment.acknowledgement(link), 60, since)


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

    deployment.start_offload()
    for link in (1, 2):
        if link == 2:
            moves(deployment, link)
        wait_for(f"traffic goes direct on link {link}", partial(goes_direct, deployment, link))
        before = load.packets()
        assert (answered(deployment), load.packets() - before) == (5, 0)
    found = deployment.binding()
    assert found is not None
    assert found["identification"] > 1 << 63  # seconds since 1900, as the mobile node has sent them

    bed.kill("home-agent")
    deployment.set_anchor_link(up=False)
    assert answered(deployment) == 5
    deployment.set_anchor_link(up=True)
    deployment.start_anchor()
    assert answered(deployment) == 5  # the home agent knows nothing of the binding
    moves(deployment, HOME)
    wait_for("the binding is gone", lambda: deployment.binding() is None)
    assert answered(deployment) == 5
