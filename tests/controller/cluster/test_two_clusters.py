# SPDX-License-Identifier: Apache-2.0
"""Two clusters by mistake on one switch, each with an etcd of its own and both with the default name."""

import json
from pathlib import Path

from hoaflow.etcd import EtcdClient
from hoaflow.etcd.messages import put
from tests.support.cluster import Member
from tests.support.etcd import Etcd
from tests.support.ovs import Ovs
from tests.support.played_cluster import connect
from tests.support.waiting import wait_for

# What a version without an `identity` in etcd writes there and to the switches of a cluster named hoaflow.
FROM_BEFORE: dict[str, object] = {"url": None, "started": 1.0, "version": "0.2.0", "connected": [], "home_agents": []}
MARKER_FROM_BEFORE = "ipv6_dst=100::206b:54a5:eab8:b4ba"


def is_master(member: Member) -> bool:
    """Tell whether a member has read the switch back as its master."""
    return [each["connected"] for each in member.get("/v1/routers")["routers"]] == [True]


def test_the_second_cluster_leaves_the_switch_to_the_first_and_says_so(ovs: Ovs, tmp_path: Path) -> None:
    ovs.add_bridge("br1", 1)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        Etcd(tmp_path / "a" / "etcd", members=1, ovs=ovs) as its_etcd,
        Etcd(tmp_path / "b" / "etcd", members=1, ovs=ovs, first=1) as other_etcd,
        Member(ovs, tmp_path / "a", 1, its_etcd.endpoints) as first,
        Member(ovs, tmp_path / "b", 2, other_etcd.endpoints) as second,
    ):
        connect(ovs, "br1", first.openflow)
        wait_for("the first cluster has it", lambda: is_master(first))
        connect(ovs, "br1", first.openflow, second.openflow)
        wait_for("the second says so", lambda: second.events("router-of-another-cluster"))
        assert "another cluster" in str(second.call("GET", "/readyz").body)
        assert not second.events("mastership-taken")
        assert is_master(first)
        assert not first.events("mastership-lost")
        first.kill()
        wait_for("the second has it, as no marker of the first is left", lambda: is_master(second), 30)
    for member in (first, second):
        member.assert_log_clean()


def test_beside_members_that_mark_switches_by_the_clusters_name_a_member_does_so(ovs: Ovs, tmp_path: Path) -> None:
    ovs.add_bridge("br1", 1)
    with Etcd(tmp_path / "etcd", members=1, ovs=ovs) as etcd:
        with ovs.inside(), EtcdClient(etcd.endpoints) as client:
            client.transact([], [put("/hoaflow/hoaflow/members/c2", json.dumps(FROM_BEFORE), client.grant_lease(600))])
        with Member(ovs, tmp_path, 1, etcd.endpoints) as member:
            connect(ovs, "br1", member.openflow)
            wait_for("it is master", lambda: is_master(member))
            wait_for("the switch is marked", lambda: MARKER_FROM_BEFORE in ovs.ofctl("dump-flows", "br1"))
        member.assert_log_clean()
