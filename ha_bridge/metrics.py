# SPDX-License-Identifier: Apache-2.0
"""Export the bridge's metrics to Prometheus (`--metrics`). None has a label per home address."""

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ha_bridge.home_agent import HomeAgent
from ha_bridge.members import Members


class BridgeCollector(Collector):
    """Read numbers from the bridge's state on each scrape, in another thread than the loop that owns it."""

    def __init__(self, home_agent: HomeAgent, members: Members) -> None:
        self._home_agent = home_agent
        self._members = members

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that registration does not collect."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return the current metrics."""
        yield from self._of_home_agent()
        yield from self._of_controllers()

    def _of_home_agent(self) -> Iterator[Metric]:
        now = self._home_agent.condition(time.monotonic())
        yield GaugeMetricFamily(
            "hoaflow_bridge_home_agent_up",
            "Whether the home agent runs; of several pods, whether the one beside serves.",
            value=now.up,
        )
        yield GaugeMetricFamily(
            "hoaflow_bridge_console_up",
            "Whether the last reading of the terminal (without one: of the kernel) showed the binding cache.",
            value=now.readable,
        )
        yield GaugeMetricFamily(
            "hoaflow_bridge_lease_suspended",
            "Whether the lease is not renewed, because the controllers' bindings cannot be trusted any more.",
            value=now.lease_suspended,
        )
        if now.since_change is not None:
            yield GaugeMetricFamily(
                "hoaflow_bridge_last_event_age_seconds",
                "Time since the kernel's last event of a change.",
                value=now.since_change,
            )
        yield GaugeMetricFamily("hoaflow_bridge_bindings", "Bindings that the home agent has.", value=now.registered)
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
        readings = CounterMetricFamily(
            "hoaflow_bridge_looks_total", "Readings of the home agent's binding cache.", labels=["result"]
        )
        for result, count in sorted(dict(self._home_agent.readings).items()):
            readings.add_metric([result], count)
        yield readings

    def _of_controllers(self) -> Iterator[Metric]:
        confirmed = GaugeMetricFamily(
            "hoaflow_bridge_lease_confirmed",
            "Whether the controller has confirmed the last renewal of the lease.",
            labels=["controller"],
        )
        accepted = GaugeMetricFamily(
            "hoaflow_bridge_accepted_bindings",
            "Bindings that the controller has accepted.",
            labels=["controller"],
        )
        unsent = GaugeMetricFamily(
            "hoaflow_bridge_unsent_bindings",
            "Bindings that differ between home agent and controller.",
            labels=["controller"],
        )
        requests = CounterMetricFamily(
            "hoaflow_bridge_requests_total",
            "Requests to the controller: lease (one for each renewal), bindings (changes) and snapshot.",
            labels=["controller", "request", "result"],
        )
        reports = CounterMetricFamily(
            "hoaflow_bridge_reports_total",
            "Changes of single bindings, by the controller's verdict.",
            labels=["controller", "result"],
        )
        for member in self._members:
            controller, now = str(member.address), member.condition()
            confirmed.add_metric([controller], now.announced)
            accepted.add_metric([controller], now.accepted)
            unsent.add_metric([controller], now.differences)
            for labels, count in sorted(dict(member.statistics.requests).items()):
                requests.add_metric([controller, *labels], count)
            for result, count in sorted(dict(member.statistics.reports).items()):
                reports.add_metric([controller, result], count)
        yield from (confirmed, accepted, unsent, requests, reports)
