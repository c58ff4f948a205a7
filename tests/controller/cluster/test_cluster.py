# SPDX-License-Identifier: Apache-2.0
"""Whatever dies, another member goes on: real etcd, controllers and switches."""

import itertools
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.support.bench import binding
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
        hand_over(cluster)
        cluster.watch_flows()
        yield cluster
    ovs.assert_log_clean()
    cluster.assert_logs_clean()


@pytest.fixture
def cluster(started: Cluster) -> Iterator[Cluster]:
    """Provide a cluster in which traffic goes direct on each router, and each member has one; no gate may close."""
    wait_for("each member has a router", lambda: spread(started) == [1, 1, 1], 60)
    hand_over(started)
    yield started
    assert started.closed_gates() == [], "no gate has closed"


_numbers = itertools.count(1)


def hand_over(cluster: Cluster) -> None:
    """Report a new care-of address, and wait until every router sends packets there."""
    number = next(_numbers)
    care_of_address = f"2001:db8:2::{number:x}"
    cluster.post(binding(care_of_address, number))
    wait_for(
        f"packets go to {care_of_address}",
        lambda: all(cluster.is_direct(dpid, care_of_address) for dpid in cluster.dpids),
        60,
    )


def spread(cluster: Cluster) -> list[int]:
    """Return how many routers each member is master of, by the members' own word."""
    return sorted(Counter((cluster.all_mastered() or {}).values()).values())


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


def test_a_master_killed_with_the_leader_of_etcd_is_replaced_and_gets_routers_again(cluster: Cluster) -> None:
    former, leader = master_of(cluster, 1), cluster.etcd.leader
    assert leader is not None
    former.kill()
    cluster.etcd.kill(leader)
    wait_until_left(cluster, former)
    hand_over(cluster)
    cluster.etcd.start(leader)
    former.start()
    wait_for("each member has a router", lambda: spread(cluster) == [1, 1, 1], 60)
    hand_over(cluster)


@pytest.mark.parametrize("lost", ["killed", "paused"])
def test_without_quorum_everything_goes_on(cluster: Cluster, lost: str) -> None:
    before = cluster.all_mastered()
    for each in (0, 1):
        if lost == "killed":
            cluster.etcd.kill(each)
        else:
            cluster.etcd.pause(each)
    wait_for("all say so", lambda: not any(reaches_etcd(member) for member in cluster.members))
    hand_over(cluster)
    renewals = {dpid: cluster.renewals(dpid) for dpid in cluster.dpids}
    wait_for(
        "gates are renewed for longer than a lease of etcd",
        lambda: all(cluster.renewals(dpid) > before + 5 for dpid, before in renewals.items()),
    )
    hand_over(cluster)
    assert cluster.all_mastered() == before
    for each in (0, 1):
        if lost == "killed":
            cluster.etcd.start(each)
        else:
            cluster.etcd.resume(each)
    wait_for("all say so", lambda: all(reaches_etcd(member) for member in cluster.members))
    hand_over(cluster)
    # A member that a busy machine keeps from renewing its lease, which counts again, is replaced. That closes no gate.
    wait_for("each member has a router", lambda: spread(cluster) == [1, 1, 1], 60)


def reaches_etcd(member: Member) -> bool:
    return bool(member.get("/v1/cluster")["etcd"]["reachable"])


def test_a_master_that_wakes_up_steps_back(cluster: Cluster) -> None:
    former = master_of(cluster, 1)
    former.pause()
    wait_until_left(cluster, former)
    hand_over(cluster)
    cluster.post_unseen(former, binding(UNSEEN, next(_numbers)))
    former.resume()
    hand_over(cluster)
    wait_for("it steps back", lambda: former.events("mastership-lost"))
    assert not any(cluster.has_had(dpid, UNSEEN) for dpid in cluster.dpids), "it wrote nothing"


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_changes_nothing(cluster: Cluster, hours: int) -> None:
    member, before = master_of(cluster, 1), cluster.all_mastered()
    renewals = cluster.renewals(1)
    member.set_clock(hours)
    wait_for("gates are renewed for longer than all leases", lambda: cluster.renewals(1) > renewals + 12, 60)
    hand_over(cluster)
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
        hand_over(cluster)
        member.start()
        wait_for("each member has a router", lambda: spread(cluster) == [1, 1, 1], 60)
    hand_over(cluster)
