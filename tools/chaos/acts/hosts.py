# SPDX-License-Identifier: Apache-2.0
"""Change what programs have set up on a host, as another administrator or program would."""

import json
import sys
from collections.abc import Callable, Sequence

from hoaflow.mobility.hairpin import EXIT
from hoaflow.router.endpoint import TOUT, Endpoint
from hoaflow.tunnel.tc import Hook
from tools.chaos.acts import Act
from tools.chaos.lab import Lab
from topologies.ovs_router import BRIDGE


def endpoints(lab: Lab, router: str) -> list[Endpoint]:
    """Return the endpoints that a router has for home agents and anchors."""
    return [Endpoint(BRIDGE, each.address) for each in lab.plan.anchors]


def flush_firewall(lab: Lab, target: str) -> None:
    """Flush nftables, as a firewall manager does."""
    lab.bed.run("nft", "flush", "ruleset", node=target)


def inside(*command: str) -> Act:
    """Return an act that runs a command inside each endpoint's namespace of a router."""
    return _inside(lambda _: True, command)


def inside_ipv4(*command: str) -> Act:
    """Return such an act for endpoints of home agents of Mobile IPv4 alone."""
    return _inside(lambda endpoint: endpoint.is_ipv4, command)


def _inside(wanted: Callable[[Endpoint], bool], command: Sequence[str]) -> Act:
    def act(lab: Lab, target: str) -> None:
        for endpoint in filter(wanted, endpoints(lab, target)):
            lab.bed.run("ip", "netns", "exec", endpoint.namespace, *command, node=target)

    return act


EMPTY_MAPS = """
import sys
from hoaflow.tunnel.tc import Hook
from hoaflow.tunnel.tunnel_filter import TunnelMaps
with TunnelMaps(None, sys.argv[1], Hook[sys.argv[2]]) as maps:
    maps.remove_all(list(maps.installed()))
"""


def empty_maps_of_endpoints(lab: Lab, target: str) -> None:
    """Delete all entries of the tunnel programs' maps in a router's endpoints."""
    inside_ipv4(sys.executable, "-c", EMPTY_MAPS, TOUT, Hook.EGRESS.name)(lab, target)


def empty_maps_of_home_agent(lab: Lab, target: str) -> None:
    """Delete all entries of the maps of a home agent's tunnel program."""
    lab.bed.run(sys.executable, "-c", EMPTY_MAPS, EXIT, Hook.INGRESS.name, node=target)


def endpoint_port(*words: str) -> Act:
    """Return an act that runs `ip link set dev PORT WORDS` for each endpoint's port of a router."""

    def act(lab: Lab, target: str) -> None:
        for endpoint in endpoints(lab, target):
            lab.bed.run("ip", "link", "set", "dev", endpoint.port, *words, node=target)

    return act


def delete_endpoint(lab: Lab, target: str) -> None:
    """Delete the endpoints' namespaces, and with them all that is in them."""
    for endpoint in endpoints(lab, target):
        lab.bed.run("ip", "netns", "del", endpoint.namespace, node=target)


def set_up_again(lab: Lab, target: str) -> None:
    """Have the operator run `hoaflow-router setup` again."""
    lab.set_up(target)


def firewall_loads(lab: Lab, target: str) -> None:
    """Load a stateful firewall that drops what belongs to no connection."""
    chain = "type filter hook forward priority 0\nct state invalid drop"
    rules = f"table inet chaos {{\nchain forward {{\n{chain}\n}}\n}}\n"
    lab.bed.run("nft", "-f", "-", node=target, stdin=rules)


def firewall_unloads(lab: Lab, target: str) -> None:
    """Unload it."""
    lab.bed.run("nft", "delete", "table", "inet", "chaos", node=target)


def on_host(*command: str) -> Act:
    """Return an act that runs a command on a host; `{host}` in it is its name."""

    def act(lab: Lab, target: str) -> None:
        lab.bed.run(*(word.format(host=target) for word in command), node=target)

    return act


def delete_tunnels(lab: Lab, target: str) -> None:
    """Delete a home agent's tunnel devices, of either kind (ip6tnl; the pair for seg6)."""
    names = [each["ifname"] for each in json.loads(lab.bed.run("ip", "-j", "link", node=target))]
    for name in names:
        if name == "hoaflow-out" or name.startswith("hoatnl"):
            lab.bed.run("ip", "link", "del", "dev", name, node=target)
