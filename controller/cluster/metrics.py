# SPDX-License-Identifier: Apache-2.0
"""Measure the cluster for Prometheus, at each scrape, as this member knows it."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.cluster.view import View


class ClusterCollector(Collector):
    """Read the view of the cluster; a controller without one has no such metrics."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registration does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return the metrics."""
        view = self._view()
        if view.etcd is None:
            return
        yield GaugeMetricFamily("hoaflow_cluster_etcd_reachable", "Whether etcd answers.", value=view.etcd.reachable)
        yield GaugeMetricFamily("hoaflow_cluster_members", "Members of the cluster.", value=len(view.members))
        mastered = GaugeMetricFamily(
            "hoaflow_router_mastered", "Whether this member is a router's master; one of all is.", labels=["router"]
        )
        for dpid, mastership in sorted(view.routers.items()):
            mastered.add_metric([f"{dpid:016x}"], mastership.master == view.member)
        yield mastered
