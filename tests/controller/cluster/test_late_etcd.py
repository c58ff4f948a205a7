# SPDX-License-Identifier: Apache-2.0
"""An etcd that answers, but late: members say so, masters go on, no gate closes. Real etcd, members and switches."""

from collections.abc import Iterator

import pytest

from hoaflow.etcd import EtcdClient
from tests.support.cluster import Cluster
from tests.support.late_etcd import READING, WRITING, LateEtcd
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

SECONDS = (2.0, 3.5, 5.0, 2.5)  # by turns


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, LateEtcd]]:
    """Provide the cluster of all tests here, and what makes its etcd late; each leaves it whole."""
    directory = tmp_path_factory.mktemp("cluster")
    (directory / "ovs").mkdir()
    with (
        Ovs(directory / "ovs") as ovs,
        LateEtcd(ovs) as late,
        Cluster(ovs, directory, endpoints=late.endpoints) as cluster,
    ):
        cluster.hand_over()
        cluster.watch_flows()
        yield cluster, late
    ovs.assert_log_clean()
    cluster.assert_logs_clean()


@pytest.fixture
def late(started: tuple[Cluster, LateEtcd]) -> LateEtcd:
    """Provide what makes etcd late."""
    return started[1]


@pytest.fixture
def cluster(started: tuple[Cluster, LateEtcd]) -> Iterator[Cluster]:
    """Provide a cluster in which traffic goes direct on each router, and each member has one; no gate may close."""
    cluster, _ = started
    wait_for("each member has a router", lambda: cluster.spread() == [1, 1, 1])
    cluster.hand_over()
    yield cluster
    assert cluster.closed_gates() == [], "no gate has closed"


def test_masters_go_on_beside_an_etcd_that_is_late(cluster: Cluster, late: LateEtcd) -> None:
    before = cluster.all_mastered()
    late.be_late(READING | WRITING, *SECONDS)
    wait_for("all say so", lambda: not any(member.reaches_etcd for member in cluster.members))
    said = [member.events("etcd-unreachable") for member in cluster.members]
    assert all("timed out" in line for lines in said for line in lines)
    cluster.hand_over()
    cluster.outlive(1)
    cluster.hand_over()
    assert cluster.all_mastered() == before
    late.be_well()
    wait_for("all reach it", lambda: all(member.reaches_etcd for member in cluster.members))
    cluster.hand_over()


def test_masters_whose_leases_have_ended_go_on_while_etcd_grants_none(cluster: Cluster, late: LateEtcd) -> None:
    """As where etcd's disks are slow: it still answers what needs none of them."""
    late.be_late(WRITING, *SECONDS)
    with cluster.ovs.inside(), EtcdClient(cluster.etcd.endpoints) as client:
        _, held = client.get_all("/hoaflow/hoaflow/members/")
        for found in held.values():
            client.revoke_lease(found.lease)
    wait_for("all know", lambda: all(member.events("lease-lost") for member in cluster.members))
    cluster.hand_over()
    cluster.outlive(1)
    cluster.hand_over()
    late.be_well()
    wait_for("each member has a router", lambda: cluster.spread() == [1, 1, 1])
    cluster.hand_over()
