# SPDX-License-Identifier: Apache-2.0
"""Say which programs run in the chaos network, where, and how each is started; write the files that they read."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.etcd import ETCD
from tools.chaos.addresses import (
    CONTROLLERS,
    HomeAgent,
    Ipv4HomeAgent,
    Ipv4MobileNode,
    MobileNode,
    MobileRouter,
    Plan,
    ProxiedNode,
    management_controller,
)
from topologies import addresses as at
from topologies.ovs_router import BRIDGE
from topologies.tokens import Tokens

LEASE, LIFETIME = 10, 60  # seconds
CONSOLE = "127.0.0.1:7777"
SNAPSHOT = 10  # seconds between snapshots, so that many of them race with reports
KEY = "686f61666c6f77206f6e6c7920696e2061206c61"  # of this emulation only
URLS = tuple(f"http://{management_controller(number)}:8080" for number in range(1, len(CONTROLLERS) + 1))


@dataclass(frozen=True)
class Program:
    """Say how a program is started: where, and which line of its log says that it runs (None: nothing does)."""

    node: str
    command: list[str]
    ready: str | None = None


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a Python module."""
    return [sys.executable, "-m", name, *arguments]


def disk(directory: Path, name: str) -> Path:
    """Return where the small disk of a program is mounted that keeps files."""
    return directory / f"disk-{name}"


def described(plan: Plan, dpids: Mapping[str, str], directory: Path) -> tuple[dict[str, Program], Tokens]:
    """Return all programs by name, and the tokens of the REST API. `dpids`: the routers' datapath ids by name."""
    first, *_ = plan.home_agents
    others = dict.fromkeys(CONTROLLERS, 'may = "member"\n')
    for each in plan.anchors:
        prefixes = ", ".join(f'"{prefix}"' for prefix in plan.prefixes(each))
        others[f"bridge-{each.name}"] = f'may = "bridge"\nhome_agent = "{each.address}"\nhome_prefixes = [{prefixes}]\n'
    tokens = Tokens(directory, first.address, [first.prefix], dpids, others)
    return dict(_Description(plan, tokens, directory).programs()), tokens


class _Description:
    """Describe the programs of one plan."""

    def __init__(self, plan: Plan, tokens: Tokens, directory: Path) -> None:
        self._plan, self._tokens, self._directory = plan, tokens, directory

    def programs(self) -> Iterator[tuple[str, Program]]:
        """Yield names and programs, in the order in which they are started."""
        for number, name in enumerate(CONTROLLERS, 1):
            yield f"etcd-{name}", self._etcd(name)
            yield name, self._controller(number, name)
        for each in self._plan.home_agents:
            yield each.name, self._home_agent(each)
            yield f"bridge-{each.name}", self._bridge(each)
        for each in self._plan.ipv4_home_agents:
            yield each.name, self._ipv4_home_agent(each)
            yield f"bridge-{each.name}", self._bridge(each, "--protocol", "mipv4", "--console", CONSOLE)
        for router in self._plan.routers:
            own = ["run", "--bridge", BRIDGE, "--token-file", str(self._tokens.file(router)), "--log-addresses"]
            yield f"agent-{router}", Program(router, module("hoaflow.router", *own, "--controller", *URLS))
        for node in self._plan.mobile_nodes:
            if isinstance(node, ProxiedNode):
                yield from self._proxy_mobility(node)
            elif isinstance(node, Ipv4MobileNode):
                yield node.name, self._ipv4_mobile_node(node)
            else:
                yield node.name, self._mobile_node(node)

    def _etcd(self, name: str) -> Program:
        hosts = {each: management_controller(number) for number, each in enumerate(CONTROLLERS, 1)}
        options = {
            "name": name,
            "data-dir": str(disk(self._directory, f"etcd-{name}") / "data"),
            "listen-client-urls": f"http://{hosts[name]}:2379",
            "advertise-client-urls": f"http://{hosts[name]}:2379",
            "listen-peer-urls": f"http://{hosts[name]}:2380",
            "initial-advertise-peer-urls": f"http://{hosts[name]}:2380",
            "initial-cluster": ",".join(f"{each}=http://{address}:2380" for each, address in hosts.items()),
            "logger": "zap",
        }
        return Program(name, [str(ETCD), *(f"--{option}={value}" for option, value in options.items())])

    def _controller(self, number: int, name: str) -> Program:
        address = management_controller(number)
        etcd = ",".join(f"http://{management_controller(each + 1)}:2379" for each in range(len(CONTROLLERS)))
        settings = self._directory / f"{name}.conf"
        lines = ["[hoaflow]", "log_addresses = true", f"tokens_file = {self._tokens.controllers}", f"etcd = {etcd}"]
        lines += [f"member = {name}", f"member_url = http://{address}:8080", "read_back_every = 5"]
        settings.write_text("\n".join([*lines, f"member_token_file = {self._tokens.file(name)}", ""]))
        command = [str(Path(sys.executable).with_name("ryu-manager")), "--config-file", str(settings)]
        command += ["--ofp-listen-host", address, "--ofp-tcp-listen-port", str(at.OPENFLOW_PORT)]
        return Program(name, [*command, "--wsapi-host", address, "--wsapi-port", "8080", "controller/app.py"])

    def _home_agent(self, home_agent: HomeAgent) -> Program:
        name = home_agent.name
        networks = self._directory / f"{name}-mobile-networks.toml"
        mobile_routers = [node for node in self._plan.mobile_routers if node.home_agent == home_agent]
        networks.write_text("".join(f'"{node.home_address}" = ["{node.binding}"]\n' for node in mobile_routers))
        own = ["--journal", str(disk(self._directory, name) / "journal"), "--mobile-networks", str(networks)]
        return self._any_home_agent(home_agent, *own)

    def _ipv4_home_agent(self, home_agent: Ipv4HomeAgent) -> Program:
        return self._any_home_agent(home_agent, "--protocol", "mipv4", "--console", CONSOLE)

    def _any_home_agent(self, home_agent: HomeAgent, *options: str) -> Program:
        own = ["--home-agent", home_agent.address, "--home-prefix", home_agent.prefix, "--log-addresses"]
        own += ["--home-link", f"{home_agent.name}-home", "--keys", str(self._keys_of(home_agent))]
        own += ["--metrics", "127.0.0.1:9109", *options]
        return Program(home_agent.name, module("hoaflow.home_agent", *own), "event=started ")

    def _bridge(self, anchor: HomeAgent, *options: str) -> Program:
        own = [word for prefix in self._plan.prefixes(anchor) for word in ("--home-prefix", prefix)]
        own += ["--home-agent", anchor.address, *options, "--lease", str(LEASE)]
        own += ["--snapshot", str(SNAPSHOT), "--token-file", str(self._tokens.file(f"bridge-{anchor.name}"))]
        return Program(anchor.name, module("ha_bridge", *own, "--log-addresses", "--controller", *URLS))

    def _mobile_node(self, node: MobileNode) -> Program:
        own = ["--home-address", node.home_address, "--home-agent", node.home_agent.address]
        own += ["--home-link", node.home_interface, "--keys", str(self._keys_of(node.home_agent))]
        own += ["--lifetime", str(LIFETIME)]
        own += ["--mobile-network", node.binding] if isinstance(node, MobileRouter) else []
        for link in node.links:
            address = f"{node.care_of_address(link)}/64,{at.foreign_gateway(link)}"
            own += ["--foreign-link", f"{node.interface(link)}={address}"]
        return Program(node.name, module("topologies.mobile_node", *own), '"started"')

    def _ipv4_mobile_node(self, node: Ipv4MobileNode) -> Program:
        own = ["--home-address", f"{node.home_address}/24", "--home-agent", node.home_agent.address]
        own += ["--home-link", node.home_interface, "--keys", str(self._keys_of(node.home_agent))]
        own += ["--lifetime", str(LIFETIME)]
        for link in node.links:
            address = f"{node.care_of_address(link)}/24,{at.ipv4(at.foreign_gateway(link))}"
            own += ["--foreign-link", f"{node.interface(link)}={address}"]
        return Program(node.name, module("topologies.ipv4_mobile_node", *own), '"started"')

    def _proxy_mobility(self, node: ProxiedNode) -> Iterator[tuple[str, Program]]:
        """Yield a proxied mobile node's anchor, with its bridge, and gateways."""
        anchor, gateways = node.home_agent, {node.gateway(link): node.care_of_address(link) for link in node.links}
        nodes = self._directory / "mobile-nodes.toml"
        identity = f'prefixes = ["{node.binding}"]\nlink_layer_address = "{at.MOBILE_NODE_MAC}"\n'
        nodes.write_text(f'["{node.name}@example.org"]\n{identity}')
        common = ["--mobile-nodes", str(nodes), "--timestamp-window", "3", "--log-addresses"]
        own = ["--local-mobility-anchor", anchor.address, "--home-prefix", anchor.prefix, *common]
        own += ["--keys", str(self._keys(anchor.name, gateways.values()))]
        yield anchor.name, Program(anchor.name, module("hoaflow.local_mobility_anchor", *own), "event=started ")
        prefix = ["--protocol", "pmipv6", "--home-network-prefix-length", "64"]
        yield f"bridge-{anchor.name}", self._bridge(anchor, *prefix)
        for name, address in gateways.items():
            own = ["--mobile-access-gateway", address, "--local-mobility-anchor", anchor.address, *common]
            own += ["--access-link", f"{name}-mn", "--lifetime", str(LIFETIME)]
            own += ["--keys", str(self._keys(name, [anchor.address]))]
            yield name, Program(name, module("hoaflow.mobile_access_gateway", *own), "event=started ")

    def _keys_of(self, home_agent: HomeAgent) -> Path:
        own = (node.home_address for node in self._plan.mobile_nodes if node.home_agent == home_agent)
        return self._keys(home_agent.name, own)

    def _keys(self, name: str, peers: Iterable[str]) -> Path:
        """Return a file with a key for each peer of a program."""
        path = self._directory / f"{name}.keys"
        path.touch(mode=0o600)
        path.write_text("".join(f'["{peer}"]\nspi = 256\nkey = "{KEY}"\n' for peer in peers))
        return path
