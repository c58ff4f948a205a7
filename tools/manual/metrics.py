# SPDX-License-Identifier: Apache-2.0
"""Generate docs/metrics.md from the metrics that each part registers."""

import random
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from controller.cluster.metrics import ClusterCollector
from controller.cluster.view import Etcd, Member, RouterMaster, View
from controller.core.home_agents import Status
from controller.core.offload import Offload
from controller.core.router import Timing
from controller.metrics import Metrics
from ha_bridge.home_agent import HomeAgent
from ha_bridge.members import Members
from ha_bridge.metrics import BridgeCollector
from ha_bridge.settings import Settings
from hoaflow.addresses import parse_address, parse_prefix
from hoaflow.foreign_agent.metrics import ForeignAgentCollector
from hoaflow.local_mobility_anchor.metrics import AnchorCollector
from hoaflow.mobile_access_gateway.held_packets import HeldPackets
from hoaflow.mobile_access_gateway.metrics import GatewayCollector
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.metrics import HomeAgentCollector
from hoaflow.mobility.tunnel_counters import DOWNLINK, UPLINK
from hoaflow.tunnel.nfnetlink import Count
from hoaflow.tunnel.spoofing_filter import Counters

HEAD = """\
<!-- Made by `make pages` from the metrics that the parts declare. -->
# Metrics

hoaflow serves metrics for [Prometheus](https://prometheus.io). No metric has a label per home address.

| part | where | for whom |
| --- | --- | --- |
| controller | `GET /metrics` of its REST API | tokens that may `read`; everybody on this host if there are no tokens |
| bridge | `ha-bridge --metrics HOST:PORT`; off by default | whoever can connect, so choose a management address |
| home agent | `hoaflow-ha --metrics HOST:PORT`; off by default | the same |
| foreign agent | `hoaflow-fa --metrics HOST:PORT`; off by default | the same |
| local mobility anchor | `hoaflow-lma --metrics HOST:PORT`; off by default | the same |
| mobile access gateway | `hoaflow-mag --metrics HOST:PORT`; off by default | the same |

    curl http://127.0.0.1:8080/metrics

`deploy/prometheus/` has an example configuration, `prometheus.yml`, and alerts with their tests, `hoaflow.rules.yml`.
`deploy/grafana/hoaflow.json` is a dashboard (in Grafana: *Dashboards*, *Import*). Both expect the job names
`hoaflow-controller`, `hoaflow-bridge` and `hoaflow-home-agent`.

Each part also has the standard `process_…` and `python_…` metrics: memory, processor time, open files.

## How to read them

- **Traffic that the home agent is spared**: `hoaflow_offloaded_bytes_total` counts what routers carry,
  `hoaflow_ha_tunnel_bytes_total` what the home agent itself carries in tunnels. A packet between two mobile nodes
  counts once for each direction. Routers count Ethernet frames, the home agent counts packets with the tunnel header,
  so compare packets, not bytes, for the offloaded share. UMIP's tunnels are kernel interfaces, which Prometheus' node
  exporter counts: `node_network_transmit_packets_total{device=~"ip6tnl.*"}` and `…receive…`.
- **Duration of a handover**: `hoaflow_activation_seconds`, by stage. The stages of one activation add up to the time
  from its first sign at the home agent to the last switch's confirmation, except for the request's network delay. The
  bridge measures `bridge_detect` and sends it as a duration, as the clocks of two hosts differ. `flow` and `barrier`
  are not counted if a binding had to wait for something else, such as its home agent's lease.
- **Faults**: a closed gate keeps all of a home agent's traffic off a router; a flow in `hoaflow_flows_refused` keeps
  one binding off it. `hoaflow explain` gives the reason for each binding.
- **Age**: the controller counts bindings by state in small steps when Prometheus asks, and spends at most a twentieth
  of its time on that, so these counts may be some seconds old while many bindings are activated. It asks the switches
  for what routers carried; one that does not answer within two seconds keeps its last values.
"""


class Declared(NamedTuple):
    """Hold what a metric's row in the page shows."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def page() -> str:
    """Return the page, with a table of metrics for each part."""
    parts = [HEAD]
    for title, registry in registries().items():
        parts += [f"\n## {title}\n", "| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
        for metric in declared(registry):
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            parts.append(f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |")
    return "\n".join(parts) + "\n"


def registries() -> dict[str, CollectorRegistry]:
    """Return the metrics registry of each part, by the part's name, with something measured in each."""
    offload = Offload(Timing(10.0, 3.0, 600.0), None, first_revision=1)
    offload.switches.begin_reading(1, 0.0)
    offload.switches.connect(1, {}, 0.0)
    offload.announce(parse_address("2001:db8::1"), (parse_prefix("2001:db8::/64"),), 10, Status.UP, now=0.0)
    settings, rng = Settings(10, 3.0, 60.0, 3.0, kernel=True), random.Random()
    followed = HomeAgent(settings, lambda *_, **__: None, rng)
    followed.changed(0.0)
    members = Members(["http://192.0.2.1:8080"], followed, settings, lambda *_, **__: None, rng)
    bridge, home_agent, foreign_agent, anchor, gateway = (CollectorRegistry() for _ in range(5))
    bridge.register(BridgeCollector(followed, members))
    carried = dict.fromkeys((UPLINK, DOWNLINK), Count(0, 0))
    home_agent.register(
        HomeAgentCollector(
            MessageCounts(), bindings=lambda: 0, carried=lambda: carried, spoofed=lambda: 0, unwritten=lambda: 0
        )
    )
    counts, carried_none = MessageCounts(), dict.fromkeys(("accepted", "dropped", "spoofed"), Count(0, 0))
    anchor.register(AnchorCollector(counts, lambda: 0, lambda: 0, lambda: Counters(0, 0)))
    foreign_agent.register(ForeignAgentCollector(counts, lambda: 0, lambda: carried_none))
    gateway.register(GatewayCollector(counts, lambda: 0, HeldPackets(0), lambda: carried_none))
    controller = Metrics(offload, {}).registry
    here, mastership = Member("controller-1", None, 0.0, "0"), RouterMaster("controller-1", 1, 0.0, "")
    view = View("hoaflow", here.name, {here.name: here}, {1: mastership}, Etcd(True, 0.0))
    controller.register(ClusterCollector(lambda: view))
    return {
        "Controller": controller,
        "Bridge": bridge,
        "Home agent": home_agent,
        "Foreign agent": foreign_agent,
        "Local mobility anchor": anchor,
        "Mobile access gateway": gateway,
    }


def declared(registry: CollectorRegistry) -> Iterator[Declared]:
    """Yield the metrics of a registry whose names begin with `hoaflow_`."""
    for family in registry.collect():
        if not family.name.startswith("hoaflow_"):
            continue
        of_samples = {label: None for sample in family.samples for label in sample.labels if label != "le"}
        labels = tuple(getattr(family, "_labelnames", ()) or of_samples)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield Declared(name, family.type, labels, family.documentation)


def exposition() -> str:
    """Return what all parts serve on `/metrics`, joined."""
    return "".join(generate_latest(registry).decode() for registry in registries().values())
