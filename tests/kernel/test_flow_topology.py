# SPDX-License-Identifier: Apache-2.0
"""The demo's network with the `flow` backend: several routers, each with an Open vSwitch on the kernel's datapath."""

from __future__ import annotations

from pathlib import Path

from tests.support.ping import echo
from tests.support.waiting import wait_for
from topologies import addresses as at
from topologies.deployment import HOME, Deployment
from topologies.load import AnchorLoad
from topologies.ovs_router import BRIDGE, KERNEL
from topologies.roaming import RoamingTopo
from topologies.testbed import Testbed


def test_every_router_encapsulates_by_openflow(tmp_path: Path) -> None:
    with Testbed(RoamingTopo(datapath=KERNEL), tmp_path / "logs") as bed:
        load = AnchorLoad(bed)
        deployment = Deployment(bed, lease=20)  # seconds: with less, a busy machine may let it lapse
        deployment.start_anchor()
        (mobile_node,) = deployment.start_mobile_node()
        assert "ip6tnl" in mobile_node.lines[-1]

        def packets_through_home_agent() -> int:
            """Return how many data packets passed the home agent while ten went each way."""
            before = load.packets()
            assert int(bed.run(*echo(10, at.HOME_ADDRESS), node="cn")) == 10
            return load.packets() - before

        def is_active(care_of_address: str) -> bool:
            binding = deployment.binding()
            return bool(binding and (binding["state"], binding["care_of_address"]) == ("active", care_of_address))

        def flows(router: str) -> str:
            return bed.run("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", BRIDGE, node=router)

        backends = deployment.start_offload()
        assert {router: backend.name for router, backend in backends.items()} == dict.fromkeys(
            bed.topology.routers, "flow"
        )
        for link in (1, 2):
            deployment.attach(link)
            wait_for("the binding is active", lambda: is_active(at.care_of_address(link)))  # noqa: B023
            # Twenty if it did; multicast listener reports out of a tunnel that is new are no traffic.
            assert packets_through_home_agent() < 10
            for router in bed.topology.routers:
                assert flows(router).count(f"set_field:{at.care_of_address(link)}->tun_ipv6_dst") == 1
        deployment.attach(HOME)
        wait_for("the binding is gone", lambda: deployment.binding() is None)
        # At home, only the way to the home address leads over the home agent, as a router.
        assert packets_through_home_agent() == 10
        for router in bed.topology.routers:
            bed.stop(f"agent-{router}")
        deployment.tear_down_routers()
        for router in bed.topology.routers:
            assert "hoaflow6" not in bed.run("ip", "link", node=router)
        assert bed.errors() == []
