# SPDX-License-Identifier: Apache-2.0
"""Cut, slow down and change links. The management network's bridge has the port mgmt-NODE for each node."""

import sys

from tools.chaos.acts import Act
from tools.chaos.addresses import GATEWAY
from tools.chaos.lab import START_TIMEOUT, Lab
from topologies import addresses as at
from topologies.nodes import checked

DELAY = 200  # milliseconds, one way
JUMBO, USUAL, NARROW = 9000, 1500, 1400  # MTU


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


def next_hop_changes(lab: Lab, target: str) -> None:
    """Give a router's next hop another MAC address, which it announces."""
    checked(lab.bed.network["core"], "sysctl", "-qw", f"net.ipv6.conf.core-{target}.ndisc_notify=1")
    address = lab.bed.run("cat", f"/sys/class/net/core-{target}/address", node="core").strip()
    changed = f"{address[:-2]}{int(address[-2:], 16) ^ 0x55:02x}"
    lab.ip("core", f"link set dev core-{target} address {changed}")


def next_hop_silent(lab: Lab, target: str) -> None:
    """Have a router's next hop say nothing in neighbour discovery, and the router forget its MAC address."""
    chain = f"type filter hook egress device core-{target} priority 0;"
    silent = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } drop"
    rules = f"table netdev chaos-{target} {{\nchain drops {{\n{chain}\n{silent}\n}}\n}}\n"
    lab.bed.run("nft", "-f", "-", node="core", stdin=rules)
    lab.bed.run("ip", "-6", "neigh", "flush", "dev", "core", node=target)


def slow(lab: Lab, target: str) -> None:
    """Delay all packets of a node's management link; this kernel may have no netem."""
    near, far = f"slow-{target}", f"far-{target}"
    lab.bed.run("ip", "link", "add", "name", near, "type", "veth", "peer", "name", far)
    for name in (near, far):
        lab.bed.run("ethtool", "-K", name, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        lab.bed.run("ip", "link", "set", "dev", name, "addrgenmode", "none", "up")
    line = [sys.executable, "-m", "topologies.delay_line", f"mgmt-{target}", far, "--delay", str(DELAY)]
    lab.bed.start(near, line).wait_for("event=ready", START_TIMEOUT)
    lab.ip(None, f"link set dev mgmt-{target} nomaster", f"link set dev {near} master mgmt")


def fast(lab: Lab, target: str) -> None:
    """Delay them no more."""
    near = f"slow-{target}"
    lab.ip(None, f"link set dev {near} nomaster", f"link set dev mgmt-{target} master mgmt")
    lab.bed.stop(near)
    lab.ip(None, f"link del dev {near}")


def core_mtu(mtu: int) -> Act:
    """Return an act that gives both ends of a router's link to the core an MTU."""

    def act(lab: Lab, target: str) -> None:
        lab.ip("core", f"link set dev core-{target} mtu {mtu}")
        lab.bed.run("ip", "link", "set", "dev", f"{target}-core", "mtu", str(mtu), node=target)

    return act


def two_next_hops(lab: Lab, target: str) -> None:
    """Give a router a default route with two next hops of equal cost."""
    first, second = at.core_side(int(target[1:])), _second_core_side(target)
    lab.ip("core", f"address replace {second}/64 dev core-{target} nodad")
    hops = ["nexthop", "via", first, "nexthop", "via", second]
    lab.bed.run("ip", "-6", "route", "replace", "default", *hops, node=target)


def one_next_hop(lab: Lab, target: str) -> None:
    """Give it the usual one."""
    lab.bed.run("ip", "-6", "route", "replace", "default", "via", at.core_side(int(target[1:])), node=target)
    lab.ip("core", f"address del {_second_core_side(target)}/64 dev core-{target}")


def _second_core_side(router: str) -> str:
    return f"{at.core_side(int(router[1:]))[:-1]}3"


def core_trunk(lab: Lab, target: str) -> None:
    """Make a router's port to the core a trunk of all VLANs, with the core's as its native one."""
    command = ["ovs-vsctl", "--timeout=20", "set", "port", f"{target}-core", "vlan_mode=native-untagged"]
    checked(lab.router(target), *command)


def core_access(lab: Lab, target: str) -> None:
    """Make it an access port again."""
    checked(lab.router(target), "ovs-vsctl", "--timeout=20", "clear", "port", f"{target}-core", "vlan_mode")


def core_drops(lab: Lab, target: str) -> None:
    """Lose all packets of a home agent's link to the core; its addresses stay, as those of a real host would."""
    _lose_all(lab, target, "core", f"core-{target}")


def core_carries(lab: Lab, target: str) -> None:
    """Let all packets of a node's link to the core through again."""
    _lose_none(lab, target, "core")


def network_drops(lab: Lab, target: str) -> None:
    """Lose all packets of a mobile router's link to its mobile network."""
    _lose_all(lab, target, target, f"{target}-net")


def network_carries(lab: Lab, target: str) -> None:
    """Let them through again."""
    _lose_none(lab, target, target)


def _lose_all(lab: Lab, target: str, node: str, interface: str) -> None:
    chains = "".join(
        f"chain {hook} {{\ntype filter hook {hook} device {interface} priority 0;\ndrop\n}}\n"
        for hook in ("ingress", "egress")
    )
    lab.bed.run("nft", "-f", "-", node=node, stdin=f"table netdev chaos-{target} {{\n{chains}}}\n")


def _lose_none(lab: Lab, target: str, node: str) -> None:
    lab.bed.run("nft", "delete", "table", "netdev", f"chaos-{target}", node=node)


def _gateways_port(gateway: str) -> tuple[str, str]:
    """Return the router of a mobile access gateway, and its port to it."""
    router = f"r{int(gateway.removeprefix(GATEWAY)) + 1}"
    return router, f"{router}-{gateway}"


def gateway_down(lab: Lab, target: str) -> None:
    """Take the carrier from a mobile access gateway's link to its router."""
    lab.bed.set_link(*_gateways_port(target), False)


def gateway_up(lab: Lab, target: str) -> None:
    """Give it back."""
    lab.bed.set_link(*_gateways_port(target), True)
