# SPDX-License-Identifier: Apache-2.0
"""Generate docs/metrics.md from the metrics that each part registers."""

import random
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from controller.core.home_agents import Status
from controller.core.offload import Offload
from controller.core.router import Timing
from controller.metrics import Metrics
from ha_bridge.core import Core, Settings
from ha_bridge.metrics import BridgeCollector
from hoaflow.addresses import parse_address, parse_prefix
from hoaflow.home_agent.load import DOWNLINK, UPLINK
from hoaflow.home_agent.metrics import HomeAgentCollector, Tally
from hoaflow.tunnel.nfnetlink import Count

HEAD = """\
<!-- Made by `make pages` from the metrics that the parts declare. -->
# Metrics

For [Prometheus](https://prometheus.io). No metric has a label per home address.

| part | serves them | to whom |
| --- | --- | --- |
| controller | `GET /metrics` of its REST API | a token that may `read`, where tokens are configured |
| bridge | `ha-bridge --metrics HOST:PORT`, otherwise not | whoever can connect: choose a management address |
| home agent | `hoaflow-ha --metrics HOST:PORT`, otherwise not | the same |

    curl http://127.0.0.1:8080/metrics

In `deploy/prometheus/`: an example of a configuration, `prometheus.yml`, and alerts, `hoaflow.rules.yml`, with their
tests. `deploy/grafana/hoaflow.json` is a dashboard: in Grafana, *Dashboards*, *Import*. Both take it that the jobs are
called `hoaflow-controller`, `hoaflow-bridge` and `hoaflow-home-agent`.

Each part also has `process_…` and `python_…`, as Prometheus' clients have them: memory, processor time, open files.

## How to read them

- **What the home agent is spared**: `hoaflow_offloaded_bytes_total` is what routers carried,
  `hoaflow_ha_tunnel_bytes_total` what the home agent itself carries in tunnels. A packet between two mobile nodes
  counts once for each direction. Routers count frames, the home agent counts packets with the tunnel's header; for the
  share that is offloaded, compare packets. Beside UMIP, whose tunnels are interfaces of the kernel, Prometheus' node
  exporter has the home agent's part: `node_network_transmit_packets_total{device=~"ip6tnl.*"}` and `…receive…`.
- **How fast a handover is**: `hoaflow_activation_seconds`, by stage. The stages of one activation add up to the time
  from the first sign of it at the home agent to the last router's word, but for the request's way to the controller.
  `bridge_detect` is measured by the bridge and told with the request, as a duration: clocks of two hosts differ. `flow`
  and `barrier` are not counted where a binding had to wait for something else, as for its home agent's lease.
- **What is wrong**: a gate that is not open keeps all of a home agent's traffic off a router; `hoaflow_flows_refused`
  keeps single bindings off it. `hoaflow explain` says for each binding what it is.
- Bindings are counted by state when Prometheus asks, in small steps, and at most a twentieth of the controller's time
  is spent on that: while many are being activated, the counts may be some seconds old. What routers carried is asked of
  the switches, too; one that does not answer within two seconds keeps its last values.
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
    offload.begin_reading(1, 0.0)
    offload.connect(1, {}, 0.0)
    offload.announce(parse_address("2001:db8::1"), (parse_prefix("2001:db8::/64"),), 10, Status.UP, now=0.0)
    core = Core(Settings(10, 3.0, 60.0, 3.0, kernel=True), lambda *_, **__: None, random.Random())
    core.changed(0.0)
    bridge, home_agent = CollectorRegistry(), CollectorRegistry()
    bridge.register(BridgeCollector(core))
    carried = dict.fromkeys((UPLINK, DOWNLINK), Count(0, 0))
    home_agent.register(
        HomeAgentCollector(Tally(), bindings=lambda: 0, carried=lambda: carried, spoofed=lambda: 0, unwritten=lambda: 0)
    )
    return {"Controller": Metrics(offload, {}).registry, "Bridge": bridge, "Home agent": home_agent}


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
