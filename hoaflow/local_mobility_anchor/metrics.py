# SPDX-License-Identifier: Apache-2.0
"""Export the anchor's metrics to Prometheus (`--metrics`). None has a label per mobile node."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hoaflow.metrics.families import by_label
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.tunnel.spoofing_filter import Counters


class AnchorCollector(Collector):
    """Collects the anchor's metrics, in a thread of the server. It describes none, so registering collects nothing."""

    def __init__(
        self,
        counts: MessageCounts,
        bindings: Callable[[], int],
        unreachable: Callable[[], int],
        tunnelled: Callable[[], Counters],
    ) -> None:
        """Take what to read. `tunnelled` counts packets from access gateways that were accepted and dropped."""
        self._counts, self._bindings, self._unreachable, self._tunnelled = counts, bindings, unreachable, tunnelled

    def describe(self) -> Iterator[Metric]:
        """Describe nothing."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Raises NftError."""
        yield GaugeMetricFamily("hoaflow_lma_bindings", "Registered mobile nodes.", value=self._bindings())
        yield GaugeMetricFamily(
            "hoaflow_lma_unreachable_gateways", "Access gateways that answer no heartbeat.", value=self._unreachable()
        )
        yield CounterMetricFamily(
            "hoaflow_lma_binding_updates_total", "Proxy Binding Updates received.", value=self._counts.binding_updates
        )
        yield by_label(
            "hoaflow_lma_binding_acknowledgements_total",
            "Proxy Binding Acknowledgements sent, by status; those below 128 accept the registration.",
            "status",
            self._counts.acknowledgements,
        )
        yield by_label("hoaflow_lma_dropped_messages_total", "Messages ignored.", "reason", self._counts.dropped)
        tunnelled = self._tunnelled()
        yield CounterMetricFamily(
            "hoaflow_lma_tunnel_packets_total", "Packets accepted from access gateways.", value=tunnelled.accepted
        )
        yield CounterMetricFamily(
            "hoaflow_lma_spoofed_packets_total",
            "Tunnel packets dropped because their addresses belong to no binding.",
            value=tunnelled.dropped,
        )
