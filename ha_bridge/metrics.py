# SPDX-License-Identifier: Apache-2.0
"""Export the bridge's metrics to Prometheus (`--metrics`). None has a label per home address."""

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ha_bridge.core import Core


class BridgeCollector(Collector):
    """Read numbers from the bridge's core on each scrape, in another thread than the core's loop."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that registration does not collect."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return the current metrics."""
        yield from self._condition()
        yield from self._statistics()

    def _condition(self) -> Iterator[Metric]:
        now = self._core.condition(time.monotonic())
        yield GaugeMetricFamily("hoaflow_bridge_home_agent_up", "Whether the home agent runs.", value=now.home_agent_up)
        yield GaugeMetricFamily(
            "hoaflow_bridge_console_up",
            "Whether the last reading of the terminal (without one: of the kernel) showed the binding cache.",
            value=now.readable,
        )
        yield GaugeMetricFamily(
            "hoaflow_bridge_lease_suspended",
            "Whether the lease is not renewed, because the controller's bindings cannot be trusted any more.",
            value=now.lease_suspended,
        )
        if now.since_change is not None:
            yield GaugeMetricFamily(
                "hoaflow_bridge_last_event_age_seconds",
                "Time since the kernel's last event of a change.",
                value=now.since_change,
            )
        bindings = GaugeMetricFamily(
            "hoaflow_bridge_bindings",
            "Bindings that the home agent has, and those of them that the controller has accepted.",
            labels=["at"],
        )
        bindings.add_metric(["home_agent"], now.registered)
        bindings.add_metric(["controller"], now.accepted)
        yield bindings
        yield GaugeMetricFamily(
            "hoaflow_bridge_unsent_bindings",
            "Bindings that differ between home agent and controller.",
            value=now.differences,
        )
        yield GaugeMetricFamily(
            "hoaflow_bridge_withheld_bindings",
            "Registered bindings left to the home agent, as IPsec protects them or the kernel does not confirm them.",
            value=now.withheld,
        )
        yield GaugeMetricFamily(
            "hoaflow_bridge_frozen_bindings",
            "Bindings that the home agent forgot in a restart, and that serve until their lifetimes end.",
            value=now.frozen,
        )

    def _statistics(self) -> Iterator[Metric]:
        statistics = self._core.statistics
        requests = CounterMetricFamily(
            "hoaflow_bridge_requests_total",
            "Requests to the controller: lease (one for each renewal), bindings (changes) and snapshot.",
            labels=["request", "result"],
        )
        for labels, count in sorted(dict(statistics.requests).items()):
            requests.add_metric(list(labels), count)
        reports = CounterMetricFamily(
            "hoaflow_bridge_reports_total",
            "Changes of single bindings, by the controller's verdict.",
            labels=["result"],
        )
        for result, count in sorted(dict(statistics.reports).items()):
            reports.add_metric([result], count)
        readings = CounterMetricFamily(
            "hoaflow_bridge_looks_total", "Readings of the home agent's binding cache.", labels=["result"]
        )
        for result, count in sorted(dict(statistics.readings).items()):
            readings.add_metric([result], count)
        yield from (requests, reports, readings)
