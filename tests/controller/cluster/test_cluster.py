# SPDX-License-Identifier: Apache-2.0
"""Whatever dies, another member goes on: real etcd, controllers and switches."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.support.cluster import Cluster, Member
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

UNSEEN = "2001:db8:2::dead"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Provide the cluster of all tests here, for it takes a while to start; each leaves it whole."""
    directory = tmp_path_factory.mktemp("cluster")
    (directory / "ovs").mkdir()
    with Ovs(directory / "ovs") as ovs, Cluster(ovs, directory) as cluster:
        cluster.hand_over()
        cluster.watch_flows()
        yield cluster
    ovs.assert_log_clean(["no response to inactivity probe"])  # from a member that is stopped for a while
    cluster.assert_logs_clean()


@pytest.fixture
def cluster(started: Cluster) -> Iterator[Cluster]:
    """Provide a cluster in which traffic goes direct on each router, and each member has one; no gate may close."""
    wait_for("each member has a router", lambda: started.spread() == [1, 1, 1], 60)
    started.hand_over()
    yield started
    assert started.closed_gates() == [], "no gate has closed"


def master_of(cluster: Cluster, dpid: int) -> Member:
    """Return the member that is master of a router."""
    name = wait_for("every router has a master", cluster.all_mastered)[dpid]
    return next(member for member in cluster.members if member.name == name)


def wait_until_left(cluster: Cluster, member: Member) -> None:
    """Wait until other members are masters of all routers."""
    wait_for(
        f"others have the routers of {member.name}",
        lambda: (masters := cluster.all_mastered()) and member.name not in masters.values(),
    )


def lose(cluster: Cluster, how: str, *members: int) -> None:
    """Have members of etcd be killed, or paused: these still take connections, and answer nothing."""
    for each in members:
        if how == "killed":
            cluster.etcd.kill(each)
        else:
            cluster.etcd.pause(each)


def bring_back(cluster: Cluster, how: str, *members: int) -> None:
    """Let members of etcd that were lost go on."""
    for each in members:
        if how == "killed":
            cluster.etcd.start(each)
        else:
            cluster.etcd.resume(each)


@pytest.mark.parametrize("lost", ["killed", "paused"])
def test_a_master_killed_with_the_leader_of_etcd_is_replaced_and_gets_routers_again(
    cluster: Cluster, lost: str
) -> None:
    former, leader = master_of(cluster, 1), cluster.etcd.leader
    assert leader is not None
    former.kill()
    lose(cluster, lost, leader)
    wait_until_left(cluster, former)
    cluster.hand_over()
    bring_back(cluster, lost, leader)
    former.start()
    wait_for("each member has a router", lambda: cluster.spread() == [1, 1, 1], 60)
    cluster.hand_over()


@pytest.mark.parametrize("lost", ["killed", "paused"])
def test_without_quorum_everything_goes_on(cluster: Cluster, lost: str) -> None:
    before = cluster.all_mastered()
    lose(cluster, lost, 0, 1)
    wait_for("all say so", lambda: not any(member.reaches_etcd for member in cluster.members))
    cluster.hand_over()
    cluster.outlive(1)
    cluster.hand_over()
    assert cluster.all_mastered() == before
    bring_back(cluster, lost, 0, 1)
    wait_for("all say so", lambda: all(member.reaches_etcd for member in cluster.members))
    cluster.hand_over()
    # A member that a busy machine keeps from renewing its lease, which counts again, is replaced. That closes no gate.
    wait_for("each member has a router", lambda: cluster.spread() == [1, 1, 1], 60)


@pytest.mark.parametrize("leases", [0, 1], ids=["soon", "late"])
def test_a_master_that_wakes_up_steps_back(cluster: Cluster, leases: int) -> None:
    former = master_of(cluster, 1)
    lost = len(former.events("mastership-lost"))
    former.pause()
    wait_until_left(cluster, former)
    cluster.hand_over()
    cluster.outlive(leases)
    cluster.post_unseen(former, UNSEEN)
    former.resume()
    cluster.hand_over()
    wait_for("it steps back", lambda: len(former.events("mastership-lost")) > lost)
    assert not any(cluster.has_had(dpid, UNSEEN) for dpid in cluster.dpids), "it wrote nothing"


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_changes_nothing(cluster: Cluster, hours: int) -> None:
    member, before = master_of(cluster, 1), cluster.all_mastered()
    member.set_clock(hours)
    cluster.outlive(1)
    cluster.hand_over()
    assert cluster.all_mastered() == before
    written = datetime.fromisoformat(member.log.splitlines()[-1].split()[0].removeprefix("time="))
    assert abs((written - datetime.now(UTC)).total_seconds()) > 3000, "its log has the other time"
    member.set_clock(0)


def test_a_master_that_its_bridge_does_not_reach_hands_its_routers_over(cluster: Cluster) -> None:
    former = master_of(cluster, 1)
    cluster.unreported.add(former)
    wait_until_left(cluster, former)
    cluster.unreported.remove(former)


def test_a_rolling_restart_closes_no_gate(cluster: Cluster) -> None:
    for member in cluster.members:
        member.kill(signal.SIGTERM)  # it ends its lease first
        wait_until_left(cluster, member)
        cluster.hand_over()
        member.start()
        wait_for("each member has a router", lambda: cluster.spread() == [1, 1, 1], 60)
    cluster.hand_over()
