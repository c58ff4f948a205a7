# SPDX-License-Identifier: Apache-2.0
"""Do to a running system what faults do. Each act takes the lab and its target's name."""

import resource
import signal
from collections.abc import Callable

from hoaflow.router.endpoint import Endpoint
from tools.chaos.lab import Lab
from topologies.nodes import checked
from topologies.ovs_router import BRIDGE

Act = Callable[[Lab, str], None]
DESCRIPTORS = 64
COOKIE = "cookie=0x686f616600000000/0xffffffff00000000"  # hoaflow's own
OWN_DROP = "cookie=0x686f6166deadbeef,table=1,priority=900,ipv6,actions=drop"


def nothing(lab: Lab, target: str) -> None:
    """Do nothing: the fault is over by itself."""


# Processes


def kill(lab: Lab, target: str) -> None:
    """Kill a process, as a crash would."""
    lab.kill(target)


def restart(lab: Lab, target: str) -> None:
    """Start it again, as the service manager would."""
    lab.restart(target)


def end(lab: Lab, target: str) -> None:
    """End a program in order (SIGTERM)."""
    lab.bed.stop(target)


def stop(lab: Lab, target: str) -> None:
    """Stop a process where it is (SIGSTOP)."""
    lab.signal(target, signal.SIGSTOP)


def resume(lab: Lab, target: str) -> None:
    """Let it go on."""
    lab.signal(target, signal.SIGCONT)


def few_descriptors(lab: Lab, target: str) -> None:
    """Lower the limit of a process's descriptors below what it needs for anything new."""
    _, hard = resource.prlimit(lab.process(target).pid, resource.RLIMIT_NOFILE)
    resource.prlimit(lab.process(target).pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


def many_descriptors(lab: Lab, target: str) -> None:
    """Give it all that it may have."""
    _, hard = resource.prlimit(lab.process(target).pid, resource.RLIMIT_NOFILE)
    resource.prlimit(lab.process(target).pid, resource.RLIMIT_NOFILE, (hard, hard))


def hour_ahead(lab: Lab, target: str) -> None:
    """Have a program's clock jump an hour ahead."""
    lab.set_clock(target, 1)


def hour_behind(lab: Lab, target: str) -> None:
    """Have it jump an hour back."""
    lab.set_clock(target, -1)


def right_time(lab: Lab, target: str) -> None:
    """Have it jump to the right time."""
    lab.set_clock(target, 0)


def stop_quorum(lab: Lab, _target: str) -> None:
    """Stop two of etcd's three members."""
    for name in ("etcd-c1", "etcd-c2"):
        stop(lab, name)


def resume_quorum(lab: Lab, _target: str) -> None:
    """Let them go on."""
    for name in ("etcd-c1", "etcd-c2"):
        resume(lab, name)


# Network. The management network's bridge has the port mgmt-NODE for each node.


def cut(lab: Lab, target: str) -> None:
    """Cut a node off from the management network."""
    lab.bed.run("ip", "link", "set", "dev", f"mgmt-{target}", "down")


def join(lab: Lab, target: str) -> None:
    """Join it again."""
    lab.bed.run("ip", "link", "set", "dev", f"mgmt-{target}", "up")


def _drop(hook: str, condition: str = "") -> Act:
    def act(lab: Lab, target: str) -> None:
        chain = f"type filter hook {hook} device mgmt-{target} priority 0;"
        rules = f"table netdev chaos-{target} {{\nchain drops {{\n{chain}\n{condition} drop\n}}\n}}\n"
        lab.bed.run("nft", "-f", "-", stdin=rules)

    act.__doc__ = f"Lose packets of a node's management link ({hook})."
    return act


drop_from, drop_to = _drop("ingress"), _drop("egress")
drop_some = _drop("ingress", "numgen random mod 100 < 20")


def drop_none(lab: Lab, target: str) -> None:
    """Let all packets of a node's management link through again."""
    lab.bed.run("nft", "delete", "table", "netdev", f"chaos-{target}")


def core_down(lab: Lab, target: str) -> None:
    """Cut a router's link to the core."""
    lab.bed.set_link(target, f"{target}-core", False)


def core_up(lab: Lab, target: str) -> None:
    """Mend it."""
    lab.bed.set_link(target, f"{target}-core", True)


def core_narrow(lab: Lab, target: str) -> None:
    """Lower the MTU of a router's link to the core to IPv6's minimum."""
    lab.ip("core", f"link set dev core-{target} mtu 1280")


def core_wide(lab: Lab, target: str) -> None:
    """Give it the usual MTU."""
    lab.ip("core", f"link set dev core-{target} mtu 1500")


def next_hop_changes(lab: Lab, target: str) -> None:
    """Give a router's next hop another MAC address, which it announces."""
    checked(lab.bed.network["core"], "sysctl", "-qw", f"net.ipv6.conf.core-{target}.ndisc_notify=1")
    address = lab.bed.run("cat", f"/sys/class/net/core-{target}/address", node="core").strip()
    changed = f"{address[:-2]}{int(address[-2:], 16) ^ 0x55:02x}"
    lab.ip("core", f"link set dev core-{target} address {changed}")


# Hosts


def flush_firewall(lab: Lab, target: str) -> None:
    """Flush nftables, as a firewall manager does."""
    lab.bed.run("nft", "flush", "ruleset", node=target)


def _endpoints(lab: Lab, router: str) -> list[Endpoint]:
    return [Endpoint(BRIDGE, each.address) for each in lab.plan.home_agents]


def inside(*command: str) -> Act:
    """Return an act that runs a command inside each endpoint's namespace of a router."""

    def act(lab: Lab, target: str) -> None:
        for endpoint in _endpoints(lab, target):
            lab.bed.run("ip", "netns", "exec", endpoint.namespace, *command, node=target)

    return act


def endpoint_port(*words: str) -> Act:
    """Return an act that runs `ip link set dev PORT WORDS` for each endpoint's port of a router."""

    def act(lab: Lab, target: str) -> None:
        for endpoint in _endpoints(lab, target):
            lab.bed.run("ip", "link", "set", "dev", endpoint.port, *words, node=target)

    return act


def delete_endpoint(lab: Lab, target: str) -> None:
    """Delete the endpoints' namespaces, and with them all that is in them."""
    for endpoint in _endpoints(lab, target):
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


# Switches


def _ofctl(lab: Lab, router: str, *arguments: str) -> None:
    checked(lab.router(router), "ovs-ofctl", "-O", "OpenFlow13", "--timeout=20", *arguments)


def flows(command: str, flow: str) -> Act:
    """Return an act that runs `ovs-ofctl COMMAND BRIDGE FLOW` on a router."""

    def act(lab: Lab, target: str) -> None:
        _ofctl(lab, target, command, BRIDGE, flow)

    return act


def limit_flows(policy: str) -> Act:
    """Return an act that lets the table of downlink flows hold one flow only."""

    def act(lab: Lab, target: str) -> None:
        table = ["--id=@t", "create", "flow_table", "flow_limit=1", f"overflow_policy={policy}"]
        checked(
            lab.router(target),
            "ovs-vsctl",
            "--timeout=20",
            "--",
            *table,
            "--",
            "set",
            "bridge",
            BRIDGE,
            "flow_tables:1=@t",
        )

    return act


def no_limit(lab: Lab, target: str) -> None:
    """Let it hold as many as there are."""
    checked(lab.router(target), "ovs-vsctl", "--timeout=20", "clear", "bridge", BRIDGE, "flow_tables")


def renumber(lab: Lab, target: str) -> None:
    """Give the endpoints' ports other OpenFlow numbers."""
    for offset, endpoint in enumerate(_endpoints(lab, target)):
        said = checked(lab.router(target), "ovs-vsctl", "--timeout=20", "get", "interface", endpoint.port, "ofport")
        number = 200 + (int(said) + 10 + offset) % 100
        command = ["ovs-vsctl", "--timeout=20", "set", "interface", endpoint.port, f"ofport_request={number}"]
        checked(lab.router(target), *command)


# Input


def second_bridge(lab: Lab, target: str) -> None:
    """Start another bridge for the same home agent."""
    lab.programs[f"{target}-twin"] = lab.programs[target]
    lab.launch(f"{target}-twin")


def no_second_bridge(lab: Lab, target: str) -> None:
    """End it."""
    lab.bed.stop(f"{target}-twin")
    del lab.programs[f"{target}-twin"]


def flood(lab: Lab, target: str) -> None:
    """Send many packets to home addresses that nobody has."""
    prefix = next(each for each in lab.plan.home_agents if each.name == target).prefix.partition("/")[0]
    program = (
        "import socket, time\n"
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
        "for n in range(3000):\n"
        f"    s.sendto(b'x', (f'{prefix}f:{{n % 1000:x}}', 9)); time.sleep(0.001)\n"
    )
    lab.bed.run("python3", "-c", program, node="cn")
