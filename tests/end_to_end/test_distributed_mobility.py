# SPDX-License-Identifier: Apache-2.0
"""Distributed mobility in Mininet (RFC 7333): sessions keep their anchors, and each of them goes direct."""

import sys
from pathlib import Path

from tests.support.ping import echo
from tests.support.waiting import TIMEOUT, wait_for
from topologies import addresses as at
from topologies.dmm import DmmTopo
from topologies.dmm_deployment import DmmDeployment, home_address, site
from topologies.testbed import Testbed
from topologies.traffic import PROBE

COUNT = 10


def binding(deployment: DmmDeployment, number: int) -> tuple[str, str, str] | None:
    """Return care-of address, home agent and state of the binding of a site's home address."""
    found = {each["home_address"]: each for each in deployment.bindings()}.get(home_address(number))
    return None if found is None else (found["care_of_address"], found["home_agent"], found["state"])


def neighbour(bed: Testbed, address: str) -> str:
    """Return what r1 knows of a neighbour on the link of site 1."""
    return bed.run("ip", "-6", "neigh", "show", address, node="r1")


def test_a_session_keeps_its_anchor_until_it_ends_and_goes_direct(tmp_path: Path) -> None:
    with Testbed(DmmTopo(), tmp_path / "logs") as bed:
        deployment = DmmDeployment(bed, lifetime=600, lease=60)
        deployment.start_anchor()
        (node,) = deployment.start_mobile_node()
        deployment.attach(1)
        node.wait_for(f'"moved".*"{home_address(1)}"', TIMEOUT)
        ends = ["--bind", home_address(1), "--peer", at.site_correspondent(1)]
        session = [sys.executable, str(PROBE), *ends, "--records", str(tmp_path / "records")]
        bed.start("session", session, node="mn").wait_for("event=ready", TIMEOUT)
        node.wait_for(f'"home-agent-discovered".*"{at.HOME_AGENT}"', TIMEOUT)
        deployment.start_offload()

        deployment.attach(2)
        expected = (at.site_address(2, at.SITE_CARE_OF_ADDRESS), site(1).home_agent, "active")
        wait_for("the session's anchor has the binding", lambda: binding(deployment, 1) == expected)
        # A neighbour confirms that it reaches the home address by a solicitation to that address itself.
        where = site(1)
        mac = bed.run("cat", f"/sys/class/net/{where.home_link}/address", node=where.node).strip()
        entry = ["neigh", "replace", home_address(1), "dev", "access", "lladdr", mac, "nud", "probe"]
        bed.run("ip", "-6", *entry, node="r1")
        wait_for("the home agent confirms it", lambda: "REACHABLE" in neighbour(bed, home_address(1)))

        load = deployment.load(1)
        assert int(bed.run(*echo(COUNT, home_address(1)), node="cn1")) == COUNT
        assert load.packets() == 0
        central = {each["home_address"]: each["home_agent"] for each in deployment.bindings()}[at.HOME_ADDRESS]
        assert central == at.HOME_AGENT
        # New sessions have the address of the site, for which nobody needs a home agent.
        route = bed.run("ip", "-6", "route", "get", at.site_correspondent(3), node="mn")
        assert f"src {home_address(2)} " in route
        assert int(bed.run(*echo(COUNT, home_address(2)), node="cn3")) == COUNT
        assert binding(deployment, 2) is None

        bed.stop("session")
        wait_for("the former home address is let go", lambda: binding(deployment, 1) is None)
        node.wait_for(f'"home-address-released".*"{home_address(1)}"', TIMEOUT)
        assert home_address(1) not in bed.run("ip", "-6", "addr", node="mn")
        assert bed.errors([r"connection (dropped|closed|failed)"]) == []
