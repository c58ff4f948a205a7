# SPDX-License-Identifier: Apache-2.0
"""Export the access gateway's metrics to Prometheus (`--metrics`). None has a label per mobile node."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hoaflow.metrics.families import UndescribedCollector
from hoaflow.mobile_access_gateway.held_packets import HeldPackets
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.metrics import signalling
from hoaflow.tunnel.nfnetlink import Count


class GatewayCollector(UndescribedCollector):
    """Collects the gateway's metrics, in a thread of the server."""

    def __init__(
        self,
        counts: MessageCounts,
        attached: Callable[[], int],
        held: HeldPackets,
        packets: Callable[[], dict[str, Count]],
    ) -> None:
        """Take what to read. `packets` is `DataPlane.counters`."""
        self._counts, self._attached, self._held, self._packets = counts, attached, held, packets

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Raises NftError."""
        yield GaugeMetricFamily("hoaflow_mag_mobile_nodes", "Mobile nodes that are served.", value=self._attached())
        yield from signalling(
            "hoaflow_mag",
            self._counts,
            "Proxy Binding Updates sent.",
            "Proxy Binding Acknowledgements received",
            "Messages and packets ignored.",
        )
        yield CounterMetricFamily(
            "hoaflow_mag_held_packets_dropped_total",
            "Packets for mobile nodes between two links that found no room.",
            value=self._held.dropped,
        )
        packets = self._packets()
        yield CounterMetricFamily(
            "hoaflow_mag_tunnel_packets_total", "Packets accepted from the anchor.", value=packets["accepted"].packets
        )
        yield CounterMetricFamily(
            "hoaflow_mag_foreign_tunnel_packets_total",
            "Tunnel packets dropped because they are not from the anchor.",
            value=packets["dropped"].packets,
        )
        yield CounterMetricFamily(
            "hoaflow_mag_spoofed_packets_total",
            "Packets from access links dropped because their source is no mobile node's.",
            value=packets["spoofed"].packets,
        )
