# SPDX-License-Identifier: Apache-2.0
"""Whatever dies, another member goes on: real etcd, controllers and switches."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench import FIRST, binding
from tests.support.cluster import Cluster
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for


@pytest.fixture
def cluster(ovs: Ovs, tmp_path: Path) -> Iterator[Cluster]:
    """Provide a cluster in which a mobile node's traffic goes direct on each router."""
    with Cluster(ovs, tmp_path) as running:
        running.post(binding(FIRST, 1))
        wait_for("every router has a master", running.all_mastered)
        wait_for("traffic goes direct", lambda: goes_to(running, FIRST))
        yield running
    running.assert_logs_clean()


def goes_to(cluster: Cluster, care_of_address: str) -> bool:
    return all(cluster.is_direct(dpid, care_of_address) for dpid in cluster.dpids)


def test_routers_are_shared_evenly(cluster: Cluster) -> None:
    wait_for("each has one", lambda: sorted(Counter(cluster.masters().values()).values()) == [1, 1, 1])
