# SPDX-License-Identifier: Apache-2.0
"""Export the anchor's metrics to Prometheus (`--metrics`). None has a label per mobile node."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hoaflow.metrics.families import UndescribedCollector
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.metrics import SPOOFED, signalling
from hoaflow.tunnel.spoofing_filter import Counters


class AnchorCollector(UndescribedCollector):
    """Collects the anchor's metrics, in a thread of the server."""

    def __init__(
        self,
        counts: MessageCounts,
        bindings: Callable[[], int],
        unreachable: Callable[[], int],
        tunnelled: Callable[[], Counters],
    ) -> None:
        """Take what to read. `tunnelled` counts packets from access gateways that were accepted and dropped."""
        self._counts, self._bindings, self._unreachable, self._tunnelled = counts, bindings, unreachable, tunnelled

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Raises NftError."""
        yield GaugeMetricFamily("hoaflow_lma_bindings", "Registered mobile nodes.", value=self._bindings())
        yield GaugeMetricFamily(
            "hoaflow_lma_unreachable_gateways", "Access gateways that answer no heartbeat.", value=self._unreachable()
        )
        yield from signalling(
            "hoaflow_lma",
            self._counts,
            "Proxy Binding Updates received.",
            "Proxy Binding Acknowledgements sent",
            "Messages ignored.",
        )
        tunnelled = self._tunnelled()
        yield CounterMetricFamily(
            "hoaflow_lma_tunnel_packets_total", "Packets accepted from access gateways.", value=tunnelled.accepted
        )
        yield CounterMetricFamily("hoaflow_lma_spoofed_packets_total", SPOOFED, value=tunnelled.dropped)
