# SPDX-License-Identifier: Apache-2.0
"""Export the home agent's metrics to Prometheus (`--metrics`). None has a label per home address.

Values are read on request, in a thread of the server; the main loop only counts.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hoaflow.metrics.families import by_label
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.tunnel.nfnetlink import Count


class HomeAgentCollector(Collector):
    """Collects the home agent's metrics. It describes none, so registering it does not collect."""

    def __init__(
        self,
        counts: MessageCounts,
        bindings: Callable[[], int],
        carried: Callable[[], dict[str, Count]],
        spoofed: Callable[[], int],
        unwritten: Callable[[], int],
    ) -> None:
        """Take what to read. `spoofed` counts tunnel packets whose addresses belong to no binding.

        `carried` is `TunnelCounters.carried`, `unwritten` is `Persistence.unwritten`.
        """
        self._counts = counts
        self._bindings = bindings
        self._carried = carried
        self._spoofed = spoofed
        self._unwritten = unwritten

    def describe(self) -> Iterator[Metric]:
        """Describe nothing."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Raises NftError."""
        yield GaugeMetricFamily("hoaflow_ha_bindings", "Bindings in the cache.", value=self._bindings())
        yield GaugeMetricFamily(
            "hoaflow_ha_unwritten_records",
            "Home addresses whose last change is not in the journal (or etcd), as that fails: a restart would lose it.",
            value=self._unwritten(),
        )
        yield CounterMetricFamily(
            "hoaflow_ha_binding_updates_total", "Binding Updates received.", value=self._counts.binding_updates
        )
        yield by_label(
            "hoaflow_ha_binding_acknowledgements_total",
            "Binding Acknowledgements sent, by status; those below 128 accept the registration.",
            "status",
            self._counts.acknowledgements,
        )
        yield by_label("hoaflow_ha_binding_errors_total", "Binding Errors sent.", "status", self._counts.binding_errors)
        yield by_label(
            "hoaflow_ha_dropped_messages_total", "Messages ignored or not answered.", "reason", self._counts.dropped
        )
        yield from self._load()

    def _load(self) -> Iterator[Metric]:
        packets = CounterMetricFamily(
            "hoaflow_ha_tunnel_packets_total", "Packets carried in tunnels.", labels=["direction"]
        )
        bytes_ = CounterMetricFamily(
            "hoaflow_ha_tunnel_bytes_total", "Bytes of these packets, including tunnel headers.", labels=["direction"]
        )
        for direction, carried in self._carried().items():
            packets.add_metric([direction], carried.packets)
            bytes_.add_metric([direction], carried.bytes)
        yield packets
        yield bytes_
        yield CounterMetricFamily(
            "hoaflow_ha_spoofed_packets_total",
            "Tunnel packets dropped because their addresses belong to no binding.",
            value=self._spoofed(),
        )
