# SPDX-License-Identifier: Apache-2.0
"""The whole path with Proxy Mobile IPv6 in Mininet: anchor, gateways, bridge, controller, agents, all of them real."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.datapath import BACKEND, DATAPATH
from tests.support.ping import echo
from tests.support.waiting import wait_for
from topologies import addresses as at
from topologies.load import AnchorLoad
from topologies.proxy import ProxyTopo
from topologies.proxy_deployment import ProxyDeployment
from topologies.testbed import Testbed

SPOOF = Path(__file__).parents[2] / "topologies/spoof.py"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[ProxyDeployment]:
    with Testbed(ProxyTopo(datapath=DATAPATH), tmp_path / "logs") as bed:
        yield ProxyDeployment(bed, lease=60)  # seconds: with less, a busy machine may let it lapse
        assert not bed.errors()


def goes_direct(deployment: ProxyDeployment, link: int) -> bool:
    """Tell whether the controller has the prefix's traffic go straight to the gateway of a link."""
    found = deployment.binding()
    return bool(found and found["state"] == "active" and found["care_of_address"] == at.care_of_address(link))


def answered(deployment: ProxyDeployment, count: int = 5) -> int:
    return int(deployment.bed.run(*echo(count, at.MOBILE_NODE_ADDRESS), node="cn"))


def arrivals(deployment: ProxyDeployment, forged: dict[str, tuple[str, str]]) -> set[str]:
    """Return the labels of those forged packets that reach the correspondent node: {label: (outer, inner source)}."""
    bed = deployment.bed
    listener = bed.start("listener", [sys.executable, str(SPOOF), "listen"], node="cn")
    listener.wait_for("event=ready", 60)
    for label, (outer, inner) in forged.items():
        ends = ["--outer", outer, deployment.anchor, "--inner", inner, at.CORRESPONDENT]
        bed.run(sys.executable, str(SPOOF), "send", *ends, "--label", label, node="stranger")
    listener.wait_for("label=last", 60)
    bed.stop("listener")
    return {label for label in forged if any(f"label={label}" in line for line in listener.lines)}


def test_a_prefix_goes_straight_to_its_gateway(deployment: ProxyDeployment) -> None:
    bed = deployment.bed
    deployment.start_anchor()
    deployment.start_mobile_node()
    load = AnchorLoad(bed, deployment.anchor, deployment.home)
    assert (answered(deployment), load.packets()) == (5, 10)

    assert {backend.name for backend in deployment.start_offload().values()} == {BACKEND}
    wait_for("traffic goes direct on link 2", lambda: goes_direct(deployment, 2))
    before = load.packets()
    assert (answered(deployment), load.packets() - before) == (5, 0)

    acknowledged = bed.programs["lma"].mark()
    deployment.attach(1)
    bed.programs["lma"].wait_for(deployment.acknowledgement(1), 60, acknowledged)
    wait_for("traffic goes direct on link 1", lambda: goes_direct(deployment, 1))
    wait_for(
        "the mobile node has its address", lambda: at.MOBILE_NODE_ADDRESS in bed.run("ip", "-6", "addr", node="mn")
    )
    before = load.packets()
    assert (answered(deployment), load.packets() - before) == (5, 0)

    # By its prefix, by its gateway, and neither: the last one shows that what is forged well enough is counted.
    gateway, home = at.care_of_address(1), at.MOBILE_NODE_ADDRESS
    forged = {
        "prefix": (gateway, deployment.wrong_inner),
        "gateway": (deployment.wrong_outer, home),
        "last": (gateway, home),
    }
    assert arrivals(deployment, forged) == {"last"}

    bed.kill("lma")
    deployment.set_anchor_link(up=False)
    assert answered(deployment) == 5
    deployment.set_anchor_link(up=True)
    deployment.start_anchor().wait_for("event=binding-registered ", 60)
    wait_for("traffic goes direct again", lambda: goes_direct(deployment, 1))
    assert answered(deployment) == 5
