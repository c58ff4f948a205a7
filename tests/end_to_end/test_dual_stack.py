# SPDX-License-Identifier: Apache-2.0
"""The whole path of dual-stack Mobile IPv6 in Mininet (RFC 5555): IPv4 in IPv6 between router and mobile node."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.support.ping import echo, ping
from tests.support.waiting import wait_for
from topologies import addresses as at
from topologies.deployment import HOME
from topologies.dual import DualTopo
from topologies.dual_deployment import DualDeployment
from topologies.load import AnchorLoad
from topologies.processes import ProcessError
from topologies.testbed import Testbed

COUNT = 10
TUNNEL_MTU = 1460  # of a link of 1500 octets, without the outer IPv6 header
IPV4_HOME_ADDRESS = DualDeployment.ipv4_home_address


def goes_direct(deployment: DualDeployment, home_address: str, link: int) -> bool:
    """Tell whether the controller has a home address's traffic go straight to a link."""
    found = deployment.binding_of(home_address)
    return found is not None and (found["state"], found["care_of_address"]) == ("active", at.care_of_address(link))


def by_home_agent(deployment: DualDeployment, load: AnchorLoad) -> int:
    """Return how many packets passed the home agent while CN and mobile node exchanged twice COUNT of them in IPv4."""
    before = load.packets()
    assert int(deployment.bed.run(*echo(COUNT, IPV4_HOME_ADDRESS), node="cn")) == COUNT
    return load.packets() - before


def send_octets(bed: Testbed, size: int) -> None:
    """Ping the mobile node from the CN in IPv4 with packets of that size, not to be fragmented (DF)."""
    data = str(size - 28)  # without the headers of IPv4 and ICMP
    bed.run(*ping(2, 5, "-M", "do", "-s", data, IPV4_HOME_ADDRESS), node="cn")


def test_an_ipv4_home_address_is_reached_direct_at_ipv6_care_of_addresses(tmp_path: Path) -> None:
    with Testbed(DualTopo(), tmp_path / "logs") as bed:
        deployment = DualDeployment(bed, lifetime=60, lease=60)
        load = AnchorLoad(bed, home=IPV4_HOME_ADDRESS)
        deployment.start_anchor()
        deployment.start_mobile_node()
        deployment.start_offload()
        for link in (1, 2):
            deployment.attach(link)
            for home_address in (at.HOME_ADDRESS, IPV4_HOME_ADDRESS):
                what = f"{home_address} goes direct on link {link}"
                wait_for(what, partial(goes_direct, deployment, home_address, link))
            assert by_home_agent(deployment, load) == 0
        with pytest.raises(ProcessError, match=rf"Frag needed and DF set \(mtu = {TUNNEL_MTU}\)"):
            send_octets(bed, TUNNEL_MTU + 1)
        send_octets(bed, TUNNEL_MTU)

        bed.kill("home-agent")
        assert by_home_agent(deployment, load) == 0
        deployment.start_anchor()
        deployment.attach(HOME)
        wait_for("the binding is gone", lambda: deployment.binding_of(IPV4_HOME_ADDRESS) is None)
        # At home, only the way to it leads over the home agent.
        assert by_home_agent(deployment, load) == COUNT
        assert bed.errors([r"connection (dropped|closed|failed)"]) == []
