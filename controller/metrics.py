# SPDX-License-Identifier: Apache-2.0
"""Measure the controller for Prometheus. No metric has a label per home address.

State that the core keeps anyway is read at each scrape; only what would be gone by then is counted as it happens.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import eventlet
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from controller.changes import give_way
from controller.core.activation import ActivationTime
from controller.core.binding_counts import Counts, count_bindings
from controller.core.events import EVENTS, Event
from controller.core.home_agents import Status
from controller.core.offload import Offload
from controller.core.pipeline import DOWNLINK, UPLINK, VERIFY
from controller.core.router import Router
from controller.core.sessions import SessionEnded
from controller.core.traffic import DIRECTIONS
from controller.southbound.channel import SwitchChannel
from controller.southbound.exchange import SwitchSilent
from hoaflow.addresses import format_address

STATES = ("active", "partial", "pending", "idle", "held", "withheld")
# The stages of an activation in their order.
STAGES = ("bridge_detect", "rest", "flow", "barrier")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Reasons of refusals by status; a stale sequence number (409) has its own.
REASONS: Mapping[int, str] = {
    400: "not-json",
    401: "no-token",
    403: "not-allowed",
    404: "not-found",
    405: "method",
    408: "too-slow",
    409: "conflict",
    413: "too-large",
    422: "wrong-value",
    429: "too-many",
    500: "controller-error",
    503: "unavailable",
}
STALE_SEQUENCE = "stale-sequence"
OTHER = "other"

# Seconds that a scrape waits for the switches' counters; a later answer is shown by the next scrape.
SWITCHES_PATIENCE = 2.0
# Share of the time that counting bindings may take: the dearer a count, the longer it is shown.
COUNTING = 1 / 20


class Metrics:
    """Hold the metrics, and encode them for a scrape."""

    def __init__(self, offload: Offload, channels: Mapping[int, SwitchChannel]) -> None:
        self.registry = CollectorRegistry()
        self._offload = offload
        self._channels = channels
        activation = Histogram(
            "hoaflow_activation_seconds",
            "Time of each stage until a new or moved binding's traffic goes direct: bridge_detect (from the change in"
            " the home agent to the bridge's request), rest (until the controller has read it), flow (until the last"
            " router's flows are sent, tunnels made before), barrier (until that switch has confirmed them).",
            ["stage"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._stages = {stage: activation.labels(stage) for stage in STAGES}
        refused = Counter(
            "hoaflow_refused_requests_total",
            "Requests, and bindings within requests, that were refused.",
            ["reason"],
            registry=self.registry,
        )
        self._refused = {reason: refused.labels(reason) for reason in (*REASONS.values(), STALE_SEQUENCE, OTHER)}
        events = Counter(
            "hoaflow_events_total", "Events, as GET /v1/events tells them.", ["name"], registry=self.registry
        )
        self._events = {name: events.labels(name) for name in EVENTS}
        self.streams = Gauge("hoaflow_event_streams", "Clients that follow the events.", registry=self.registry)
        self.streams_dropped = Counter(
            "hoaflow_event_streams_dropped_total",
            "Clients that followed the events too slowly and were dropped.",
            registry=self.registry,
        )
        self._counts: Counts = Counts()
        self._count_again = 0.0
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(_CoreCollector(offload, lambda: self._counts))

    def detected(self, ago: float) -> None:
        """Measure the seconds from a change at the home agent to the bridge's request."""
        self._stages["bridge_detect"].observe(ago)

    def taken(self, seconds: float) -> None:
        """Measure the seconds from a request to its new or moved binding in the core."""
        self._stages["rest"].observe(seconds)

    def activated(self, activations: Iterable[ActivationTime]) -> None:
        """Measure the activation of bindings."""
        for activation in activations:
            self._stages["flow"].observe(activation.flow)
            self._stages["barrier"].observe(activation.barrier)

    def refused(self, status: int, stale: bool = False) -> None:
        """Count a refused request, or item of one; `stale`: its sequence number was the reason."""
        self._refused[STALE_SEQUENCE if stale else REASONS.get(status, OTHER)].inc()

    def happened(self, events: Iterable[Event]) -> None:
        """Count events."""
        for event in events:
            self._events[event.name].inc()

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, for a client's `Accept`.

        Waits for the switches while other greenlets run.
        """
        self.observe_traffic()
        self._count_bindings()
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def _count_bindings(self) -> None:
        now = started = time.monotonic()
        if now < self._count_again:
            return
        self._count_again = float("inf")  # a scrape at the same time gets the former counts
        worked, latest = 0.0, self._counts
        try:
            for counts in count_bindings(self._offload, now):
                latest = counts
                worked += time.monotonic() - started
                give_way()
                started = time.monotonic()
            self._counts = latest
        finally:
            self._count_again = time.monotonic() + worked / COUNTING

    def observe_traffic(self) -> None:
        """Ask the switches for their counters, and wait for them at most `SWITCHES_PATIENCE` seconds."""
        asked = [eventlet.spawn(_observe, channel) for channel in self._channels.values()]
        with eventlet.Timeout(SWITCHES_PATIENCE, False):
            for greenlet in asked:
                greenlet.wait()


def _observe(channel: SwitchChannel) -> None:
    try:
        channel.observe_traffic()
    except (SwitchSilent, SessionEnded):
        return  # the channel's own greenlets notice and log that


class _CoreCollector(Collector):
    """Read the core at each scrape."""

    def __init__(self, offload: Offload, counts: Callable[[], Counts]) -> None:
        self._offload = offload
        self._counts = counts

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registration does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return home agents and routers as of now, and bindings as of the last count."""
        now = time.monotonic()
        yield from self._home_agents(now)
        yield from self._routers(now)

    def _home_agents(self, now: float) -> Iterator[Metric]:
        bindings = GaugeMetricFamily(
            "hoaflow_bindings", "Bindings by home agent and state.", labels=["home_agent", "state"]
        )
        age = GaugeMetricFamily(
            "hoaflow_lease_age_seconds", "Time since a bridge renewed its lease.", labels=["home_agent"]
        )
        lease_held = GaugeMetricFamily(
            "hoaflow_lease_held", "Whether a bridge has renewed its lease in time.", labels=["home_agent"]
        )
        up = GaugeMetricFamily(
            "hoaflow_home_agent_up", "Whether the bridge says that the home agent runs.", labels=["home_agent"]
        )
        counts = self._counts()
        for agent in self._offload.home_agents:
            name = format_address(agent.address)
            for state in STATES:
                bindings.add_metric([name, state], counts[agent.address, state])
            age.add_metric([name], max(0.0, agent.lease - (agent.lease_ends - now)))
            lease_held.add_metric([name], agent.lease_holds(now))
            up.add_metric([name], agent.status is Status.UP)
        yield from (bindings, age, lease_held, up)

    def _routers(self, now: float) -> Iterator[Metric]:
        gauges: Mapping[str, tuple[str, Callable[[Router], float]]] = {
            "hoaflow_router_connected": ("Whether a router's switch is connected.", lambda r: r.switch.is_there),
            "hoaflow_router_draining": ("Whether an operator has drained a router.", lambda r: r.gates.draining),
            "hoaflow_router_agent_alive": (
                "Whether a router's tunnel agent has been heard of within its lease.",
                lambda r: r.tunnels.agent_alive(now),
            ),
            "hoaflow_flows": ("Flows of hoaflow that a router's switch has.", lambda r: r.flows.count),
            "hoaflow_flows_refused": (
                "Flows that a router's switch has refused and does not have.",
                lambda r: len(r.flows.refused.all()),
            ),
        }
        counters: Mapping[str, tuple[str, Callable[[Router], float]]] = {
            "hoaflow_flow_errors_total": (
                "Flow messages that a router's switch has refused.",
                lambda r: r.messages.refused,
            ),
            "hoaflow_drift_repaired_total": (
                "Flows repaired after something else had changed, added or removed them.",
                lambda r: r.messages.repaired,
            ),
        }
        routers = {f"{dpid:016x}": router for dpid, router in self._offload.routers.items()}
        for name, (help_, value) in gauges.items():
            gauge = GaugeMetricFamily(name, help_, labels=["router"])
            for dpid, router in routers.items():
                gauge.add_metric([dpid], value(router))
            yield gauge
        for name, (help_, value) in counters.items():
            counter = CounterMetricFamily(name, help_, labels=["router"])
            for dpid, router in routers.items():
                counter.add_metric([dpid], value(router))
            yield counter
        left_out = GaugeMetricFamily(
            "hoaflow_flows_left_out",
            "Flows that a router's switch has no room for, by table.",
            labels=["router", "table"],
        )
        for dpid, router in routers.items():
            counts = router.flows.without_room()
            for table in (DOWNLINK, UPLINK, VERIFY):
                left_out.add_metric([dpid, table], counts[table])
        yield left_out
        yield from self._traffic(routers)
        yield self._messages(routers)
        yield self._packet_ins(routers)
        yield self._gates(routers)

    @staticmethod
    def _messages(routers: Mapping[str, Router]) -> Metric:
        messages = CounterMetricFamily(
            "hoaflow_flow_messages_total", "Flow messages sent to a router's switch.", labels=["router", "kind"]
        )
        for dpid, router in routers.items():
            messages.add_metric([dpid, "add"], router.messages.added)
            messages.add_metric([dpid, "delete"], router.messages.deleted)
        return messages

    @staticmethod
    def _packet_ins(routers: Mapping[str, Router]) -> Metric:
        dropped = CounterMetricFamily(
            "hoaflow_packet_ins_dropped_total",
            "Packets without flows of which an on-demand router's switch did not tell (meter), or told in vain (queue):"
            " they have gone to the home agent all the same.",
            labels=["router", "reason"],
        )
        for dpid, router in routers.items():
            dropped.add_metric([dpid, "meter"], router.demand.drops.metered)
            dropped.add_metric([dpid, "queue"], router.demand.drops.unread)
        return dropped

    @staticmethod
    def _traffic(routers: Mapping[str, Router]) -> Iterator[Metric]:
        labels = ["router", "direction"]
        packets = CounterMetricFamily(
            "hoaflow_offloaded_packets_total", "Packets that a router has carried past the home agents.", labels=labels
        )
        bytes_ = CounterMetricFamily(
            "hoaflow_offloaded_bytes_total",
            "Bytes of these packets, as Open vSwitch counts them: frames of Ethernet.",
            labels=labels,
        )
        for dpid, router in routers.items():
            for direction in DIRECTIONS:
                total = router.traffic.total(direction)
                packets.add_metric([dpid, direction], total.packets)
                bytes_.add_metric([dpid, direction], total.bytes)
        yield from (packets, bytes_)

    def _gates(self, routers: Mapping[str, Router]) -> Metric:
        gates = GaugeMetricFamily(
            "hoaflow_gate_open", "Whether all gates of a home agent stand on a router.", labels=["router", "home_agent"]
        )
        for dpid, router in routers.items():
            for agent in self._offload.home_agents if router.switch.standby is None else ():
                gates.add_metric(
                    [dpid, format_address(agent.address)], router.gates.open_since(agent.address) is not None
                )
        return gates
