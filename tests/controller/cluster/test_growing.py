# SPDX-License-Identifier: Apache-2.0
"""docs/cluster.md, from one controller to three and back: no gate closes on the way."""

import signal
from pathlib import Path

from tests.support.bench import binding
from tests.support.cluster import Cluster
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for


def test_one_controller_becomes_three_and_three_become_one(ovs: Ovs, tmp_path: Path) -> None:
    with Cluster(ovs, tmp_path, routers=2, one_alone=True) as cluster:
        first, *others = cluster.members
        cluster.post(binding("2001:db8:2::1", 1))
        wait_for("packets go direct", lambda: is_direct(cluster, "2001:db8:2::1"))
        cluster.watch_flows()

        cluster.etcd.__enter__()
        for member in others:
            member.start()
        first.kill(signal.SIGTERM)
        first.join(cluster.etcd.endpoints)
        first.start()
        cluster.connect(*cluster.members)
        wait_for("two of the three are masters", lambda: len(set((cluster.all_mastered() or {}).values())) == 2, 60)
        cluster.post(binding("2001:db8:2::2", 2))
        wait_for("a handover goes direct", lambda: is_direct(cluster, "2001:db8:2::2"))

        for member in others:
            member.kill(signal.SIGTERM)
        first.kill(signal.SIGTERM)
        first.join([])
        first.start()
        cluster.connect(first)
        cluster.etcd.stop()
        cluster.post(binding("2001:db8:2::3", 3))
        wait_for("a handover goes direct", lambda: is_direct(cluster, "2001:db8:2::3"), 60)
        assert cluster.closed_gates() == []
    cluster.assert_logs_clean()


def is_direct(cluster: Cluster, care_of_address: str) -> bool:
    """Tell whether each router sends packets to a care-of address."""
    return all(cluster.is_direct(dpid, care_of_address) for dpid in cluster.dpids)
