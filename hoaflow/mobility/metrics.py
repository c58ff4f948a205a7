# SPDX-License-Identifier: Apache-2.0
"""Export what home agents measure (`--metrics`), and what anchors and access gateways measure like them.

None has a label per mobile node. Values are read on request, in a thread of the server; the main loop only counts.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hoaflow.metrics.families import UndescribedCollector, by_label
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.tunnel.nfnetlink import Count

SPOOFED = "Tunnel packets dropped because their addresses belong to no binding."


def signalling(
    prefix: str, counts: MessageCounts, updates: str, acknowledgements: str, dropped: str
) -> Iterator[Metric]:
    """Yield the metrics of messages: names begin with `prefix`, the texts say which messages are counted."""
    yield CounterMetricFamily(f"{prefix}_binding_updates_total", updates, value=counts.binding_updates)
    yield by_label(
        f"{prefix}_binding_acknowledgements_total",
        f"{acknowledgements}, by status; those below 128 accept the registration.",
        "status",
        counts.acknowledgements,
    )
    yield by_label(f"{prefix}_dropped_messages_total", dropped, "reason", counts.dropped)


class HomeAgentCollector(UndescribedCollector):
    """Collects a home agent's metrics. Registration Requests and Replies of Mobile IPv4 count as Binding Updates."""

    def __init__(
        self,
        counts: MessageCounts,
        bindings: Callable[[], int],
        carried: Callable[[], dict[str, Count]],
        spoofed: Callable[[], int],
        unwritten: Callable[[], int] | None = None,
    ) -> None:
        """Take what to read. `spoofed` counts tunnel packets whose addresses belong to no binding.

        `carried` is `TunnelCounters.carried`, `unwritten` is `Persistence.unwritten`, if anything is kept.
        """
        self._counts = counts
        self._bindings = bindings
        self._carried = carried
        self._spoofed = spoofed
        self._unwritten = unwritten

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Raises NftError."""
        yield GaugeMetricFamily("hoaflow_ha_bindings", "Bindings in the cache.", value=self._bindings())
        if self._unwritten is not None:
            yield GaugeMetricFamily(
                "hoaflow_ha_unwritten_records",
                "Home addresses whose last change is not in the journal (or etcd), as that fails: a restart would lose "
                "it.",
                value=self._unwritten(),
            )
        yield from signalling(
            "hoaflow_ha",
            self._counts,
            "Binding Updates (Mobile IPv4: Registration Requests) received.",
            "Binding Acknowledgements (Registration Replies) sent",
            "Messages ignored or not answered.",
        )
        yield by_label("hoaflow_ha_binding_errors_total", "Binding Errors sent.", "status", self._counts.binding_errors)
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
        yield CounterMetricFamily("hoaflow_ha_spoofed_packets_total", SPOOFED, value=self._spoofed())
