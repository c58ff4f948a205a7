# SPDX-License-Identifier: Apache-2.0
"""Export the foreign agent's metrics to Prometheus (`--metrics`). None has a label per mobile node."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hoaflow.metrics.families import UndescribedCollector
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.metrics import signalling
from hoaflow.tunnel.nfnetlink import Count


class ForeignAgentCollector(UndescribedCollector):
    """Collects the foreign agent's metrics, in a thread of the server."""

    def __init__(
        self, counts: MessageCounts, visitors: Callable[[], int], packets: Callable[[], dict[str, Count]]
    ) -> None:
        """Take what to read. `packets` is `DataPlane.counters`."""
        self._counts, self._visitors, self._packets = counts, visitors, packets

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Raises NftError."""
        yield GaugeMetricFamily("hoaflow_fa_visitors", "Mobile nodes that are served.", value=self._visitors())
        yield from signalling(
            "hoaflow_fa",
            self._counts,
            "Registration Requests received from mobile nodes.",
            "Registration Replies sent to mobile nodes",
            "Messages ignored or not answered.",
        )
        packets = self._packets()
        for name, text, counter in (
            ("tunnel", "Packets accepted from home agents.", "accepted"),
            ("foreign_tunnel", "Tunnel packets dropped because they are of no visitor and its home agent.", "dropped"),
            ("spoofed", "Packets from access links dropped because their source is not the sender's.", "spoofed"),
        ):
            yield CounterMetricFamily(f"hoaflow_fa_{name}_packets_total", text, value=packets[counter].packets)
