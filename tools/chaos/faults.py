# SPDX-License-Identifier: Apache-2.0
"""List the faults, with what each may cost: data. `docs/reliability.md` shows this table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hoaflow.router.flow.record import DEVICE
from tools.chaos.acts import Act, hosts, inputs, links, nothing, processes, switches
from tools.chaos.addresses import BPF, CONTROLLERS, FLOW, GATEWAY, PROXIED, SEG6, Plan
from tools.chaos.timeline import Loss

AGREES = 15.0  # seconds
TOLD_ON = 75.0  # seconds; a controller tells of a stranger until the switch has been left alone for a minute
PROCESSES, NETWORK, HOST, SWITCH, INPUT = "process", "network", "host", "switch", "input"


@dataclass(frozen=True)
class Fault:
    """Describe a fault.

    targets: names, with commas between them. `{router}`, `{home_agent}` (of Mobile IPv6), `{ipv4_home_agent}`,
    `{local_mobility_anchor}`, `{anchor}` (any of these), `{gateway}` (a mobile access gateway), `{mobile_router}` and
    `{controller}` stand for each of them. seconds: how long it lasts, at least and at most. loss: what may be lost,
    None if nothing may; where it is a router's, on its links only. agrees: seconds after all is direct again within
    which everything that is asked says so. plane: what a router must carry tunnels by, None for any. alone: nothing
    else may be broken at the same time, as hoaflow alone knows the bindings then.
    """

    name: str
    kind: str
    targets: str
    begin: Act
    end: Act
    seconds: tuple[float, float]
    loss: Loss | None = None
    agrees: float = AGREES
    plane: str | None = None
    alone: bool = False

    def targets_in(self, plan: Plan) -> list[str]:
        """Return the names of all that it may befall."""
        names = {"router": plan.routers_with(self.plane), "controller": CONTROLLERS}
        names["home_agent"] = tuple(each.name for each in plan.home_agents)
        names["ipv4_home_agent"] = tuple(each.name for each in plan.ipv4_home_agents)
        names["local_mobility_anchor"] = tuple(each.name for each in plan.local_mobility_anchors)
        names["anchor"] = tuple(each.name for each in plan.anchors)
        names["gateway"] = tuple(node.gateway(link) for node in plan.proxied for link in node.links)
        names["mobile_router"] = tuple(each.name for each in plan.mobile_routers)
        return [target for wanted in self.targets.split(", ") for target in _named(wanted, names)]


def _named(wanted: str, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a target, or one for each name that its word in braces stands for."""
    for word, found in names.items():
        if f"{{{word}}}" in wanted:
            return [wanted.format(**{word: each}) for each in found]
    return [wanted]


def places(target: str) -> frozenset[str]:
    """Return the places that lose packets where a target is broken, none for everywhere."""
    name = target.rpartition("-")[2]
    if name == "r1":
        return frozenset({"cn"})
    if name.startswith("r") and name[1:].isdigit():
        return frozenset({f"link{int(name[1:]) - 1}"})
    if name.startswith(GATEWAY):
        return frozenset({f"mn{PROXIED}"})
    return frozenset({name}) if name.startswith(("ha", "lma", "mn")) else frozenset()


SHORT, MEDIUM, LONG = (1.0, 5.0), (2.0, 15.0), (5.0, 40.0)
MENDED = Loss(10.0)  # what only lasts until somebody mends it, on a busy machine
# As without hoaflow: while the fault lasts, and until routing is back. Open vSwitch's userspace datapath forwards
# nothing without its database either, and may take 8 s to connect to it again.
ENDS = Loss(15.0, after_end=True)


# A gateway that starts again asks who is there, and registers them; a mobile router registers itself.
SERVES = Loss(5.0, after_end=True)
# A home agent of Mobile IPv4 has no journal: once it has ended, only hoaflow knows its bindings until mobile nodes have
# registered anew; their packets go direct all the same. The others' bindings are in a journal, or asked for.
KEEPS, FORGETS = "{home_agent}, {local_mobility_anchor}", "{ipv4_home_agent}"
# What a tunnel on the narrower link does not carry is lost until its sender has been told.
TOLD = Loss(2.0, over=links.NARROW - 40)


def _inside(what: str, *command: str) -> Fault:
    """Return a fault inside a router's endpoints."""
    return _of_endpoint(f"endpoint's {what}", hosts.inside(*command))


def _of_endpoint(name: str, begin: Act, plane: str = SEG6) -> Fault:
    """Return a fault of a router's endpoints."""
    return Fault(name, HOST, "{router}", begin, nothing, SHORT, MENDED, plane=plane)


def _of_tunnel_device(what: str, *command: str) -> Fault:
    """Return a fault of the flow backend's device, which is on the router's host."""
    return _of_endpoint(f"tunnel device's {what}", hosts.on_host(*command), FLOW)


def _clocks(whose: str, targets: str) -> tuple[Fault, Fault]:
    """Return the faults of a program's clock."""
    return (
        Fault(f"{whose}'s clock ahead", HOST, targets, processes.hour_ahead, processes.right_time, MEDIUM),
        Fault(f"{whose}'s clock behind", HOST, targets, processes.hour_behind, processes.right_time, MEDIUM),
    )


def _short_of_memory(whose: str, targets: str) -> Fault:
    """Return the fault of a program that gets no more memory."""
    return Fault(f"{whose} without memory", PROCESSES, targets, processes.little_memory, processes.much_memory, MEDIUM)


def _on_anchor(what: str, *command: str) -> Fault:
    """Return a fault of what an anchor has set up on its host."""
    return Fault(f"anchor's {what}", HOST, "{anchor}", hosts.on_host(*command), nothing, SHORT, MENDED)


def _on_home_agent(what: str, *command: str) -> Fault:
    """Return a fault of a home agent's home link, which no other anchor has, and which the home agent mends."""
    return Fault(f"home agent's {what}", HOST, "{home_agent}", hosts.on_host(*command), nothing, SHORT, MENDED)


def _in_ipv4_endpoint(what: str, *command: str) -> Fault:
    """Return a fault inside a router's endpoints for home agents of Mobile IPv4."""
    return _of_endpoint(f"IPv4 endpoint's {what}", hosts.inside_ipv4(*command), BPF)


def _on_ipv4_home_agent(what: str, begin: Act) -> Fault:
    """Return a fault of what a home agent of Mobile IPv4 has set up on its host."""
    return Fault(f"IPv4 home agent's {what}", HOST, "{ipv4_home_agent}", begin, nothing, SHORT, MENDED)


def _flows(name: str, command: str, flow: str, loss: Loss | None = MENDED) -> Fault:
    """Return a fault of a router's flows."""
    return Fault(name, SWITCH, "{router}", switches.flows(command, flow), nothing, SHORT, loss)


_NARROW, _USUAL, _JUMBO = map(links.core_mtu, (links.NARROW, links.USUAL, links.JUMBO))
_CUT, _MEND = links.core_drops, links.core_carries
_CUT_NETWORK, _MEND_NETWORK = links.network_drops, links.network_carries
_FEW, _MANY = processes.few_descriptors, processes.many_descriptors
_REFUSING, _EVICTING, _UNLIMITED = switches.limit_flows("refuse"), switches.limit_flows("evict"), switches.no_limit
_LINK_DOWN, _LINK_UP = (hosts.on_host("ip", "link", "set", "dev", "{host}-home", how) for how in ("down", "up"))
_RELEARN, _RICH = processes.restart_and_relearn, processes.much_memory_and_relearn
_USURP, _GIVE_WAY = switches.usurp, switches.give_way
_TWIN, _NO_TWIN = inputs.second_bridge, inputs.no_second_bridge

TABLE = (
    Fault("controller killed", PROCESSES, "{controller}", processes.kill, processes.restart, MEDIUM),
    Fault("controller stopped", PROCESSES, "{controller}", processes.stop, processes.resume, LONG),
    Fault("controller restarted", PROCESSES, "{controller}", processes.end, processes.restart, SHORT),
    _short_of_memory("controller", "{controller}"),
    Fault("controller without descriptors", PROCESSES, "{controller}", _FEW, _MANY, MEDIUM),
    Fault("bridge killed", PROCESSES, "bridge-{anchor}", processes.kill, processes.restart, LONG),
    Fault("bridge stopped", PROCESSES, "bridge-{anchor}", processes.stop, processes.resume, LONG),
    Fault("bridge restarted", PROCESSES, "bridge-{anchor}", processes.end, processes.restart, SHORT),
    _short_of_memory("bridge", "bridge-{anchor}"),
    Fault("bridge without descriptors", PROCESSES, "bridge-{anchor}", _FEW, _MANY, MEDIUM),
    Fault("anchor killed", PROCESSES, KEEPS, processes.kill, processes.restart, MEDIUM),
    Fault("IPv4 home agent killed", PROCESSES, FORGETS, processes.kill, _RELEARN, SHORT, alone=True),
    Fault("IPv4 home agent restarted", PROCESSES, FORGETS, processes.end, _RELEARN, SHORT, alone=True),
    Fault("anchor stopped", PROCESSES, "{anchor}", processes.stop, processes.resume, MEDIUM),
    _short_of_memory("anchor", KEEPS),
    Fault("IPv4 home agent without memory", PROCESSES, FORGETS, processes.little_memory, _RICH, SHORT, alone=True),
    Fault("anchor without descriptors", PROCESSES, "{anchor}", _FEW, _MANY, MEDIUM),
    Fault("home agent's disk full", PROCESSES, "{home_agent}", processes.fill_disk, processes.free_disk, MEDIUM),
    Fault("gateway killed", PROCESSES, "{gateway}", processes.kill, processes.restart, MEDIUM, SERVES),
    Fault("gateway stopped", PROCESSES, "{gateway}", processes.stop, processes.resume, MEDIUM),
    Fault("mobile router killed", PROCESSES, "{mobile_router}", processes.kill, processes.restart, MEDIUM, SERVES),
    Fault("mobile router stopped", PROCESSES, "{mobile_router}", processes.stop, processes.resume, MEDIUM),
    _short_of_memory("tunnel agent", "agent-{router}"),
    Fault("tunnel agent without descriptors", PROCESSES, "agent-{router}", _FEW, _MANY, MEDIUM),
    Fault("tunnel agent killed", PROCESSES, "agent-{router}", processes.kill, processes.restart, LONG),
    Fault("tunnel agent stopped", PROCESSES, "agent-{router}", processes.stop, processes.resume, LONG),
    Fault("tunnel agent restarted", PROCESSES, "agent-{router}", processes.end, processes.restart, SHORT),
    Fault("ovs-vswitchd killed", PROCESSES, "ovs-vswitchd-{router}", processes.kill, processes.restart, SHORT, ENDS),
    Fault("ovs-vswitchd stopped", PROCESSES, "ovs-vswitchd-{router}", processes.stop, processes.resume, MEDIUM, ENDS),
    Fault("ovsdb-server killed", PROCESSES, "ovsdb-server-{router}", processes.kill, processes.restart, MEDIUM, ENDS),
    Fault("ovsdb-server stopped", PROCESSES, "ovsdb-server-{router}", processes.stop, processes.resume, MEDIUM, ENDS),
    Fault("etcd member killed", PROCESSES, "etcd-{controller}", processes.kill, processes.restart, MEDIUM),
    Fault("etcd member stopped", PROCESSES, "etcd-{controller}", processes.stop, processes.resume, LONG),
    Fault("etcd member's disk full", PROCESSES, "etcd-{controller}", processes.fill_disk, processes.free_disk, MEDIUM),
    Fault("etcd without quorum", PROCESSES, "etcd", processes.stop_quorum, processes.resume_quorum, LONG),
    Fault("controller cut off", NETWORK, "{controller}", links.cut, links.join, LONG),
    Fault("controller not heard", NETWORK, "{controller}", links.drop_from, links.drop_none, LONG),
    Fault("controller deaf", NETWORK, "{controller}", links.drop_to, links.drop_none, LONG),
    Fault("controller's link lossy", NETWORK, "{controller}", links.drop_some, links.drop_none, LONG),
    Fault("bridge cut off", NETWORK, "{anchor}", links.cut, links.join, LONG),
    Fault("bridge not heard", NETWORK, "{anchor}", links.drop_from, links.drop_none, LONG),
    Fault("bridge deaf", NETWORK, "{anchor}", links.drop_to, links.drop_none, LONG),
    Fault("bridge's link lossy", NETWORK, "{anchor}", links.drop_some, links.drop_none, LONG),
    Fault("router cut off", NETWORK, "{router}", links.cut, links.join, LONG),
    Fault("router not heard", NETWORK, "{router}", links.drop_from, links.drop_none, LONG),
    Fault("router deaf", NETWORK, "{router}", links.drop_to, links.drop_none, LONG),
    Fault("router's link lossy", NETWORK, "{router}", links.drop_some, links.drop_none, LONG),
    *(
        Fault(f"{whose}'s link slow", NETWORK, target, links.slow, links.fast, LONG)
        for whose, target in (("controller", "{controller}"), ("bridge", "{anchor}"), ("router", "{router}"))
    ),
    Fault("core link down", NETWORK, "{router}", links.core_down, links.core_up, MEDIUM, ENDS),
    Fault("core link narrow", NETWORK, "{router}", _NARROW, _USUAL, MEDIUM, TOLD),
    Fault("core link jumbo", NETWORK, "{router}", _JUMBO, _USUAL, MEDIUM),
    Fault("core port a VLAN trunk", NETWORK, "{router}", links.core_trunk, links.core_access, MEDIUM),
    Fault("two next hops of equal cost", NETWORK, "{router}", links.two_next_hops, links.one_next_hop, MEDIUM),
    Fault("anchor cut off from the core", NETWORK, "{anchor}", _CUT, _MEND, MEDIUM, ENDS),
    Fault("gateway's link down", NETWORK, "{gateway}", links.gateway_down, links.gateway_up, MEDIUM, ENDS),
    Fault("mobile network cut off", NETWORK, "{mobile_router}", _CUT_NETWORK, _MEND_NETWORK, SHORT, ENDS),
    Fault("next hop's MAC changed", NETWORK, "{router}", links.next_hop_changes, nothing, SHORT, MENDED),
    Fault("next hop silent", NETWORK, "{router}", links.next_hop_silent, links.core_carries, SHORT, ENDS),
    Fault("nftables flushed (router)", HOST, "{router}", hosts.flush_firewall, nothing, SHORT, MENDED),
    Fault("nftables flushed (anchor)", HOST, "{anchor}", hosts.flush_firewall, nothing, SHORT, MENDED),
    _of_endpoint("endpoint's port down", hosts.endpoint_port("down")),
    _inside("link down", "ip", "link", "set", "tout", "down"),
    _inside("link renamed", "ip", "link", "set", "enc0", "name", "other0"),
    _inside("link deleted", "ip", "link", "del", "enc0"),
    _inside("addresses flushed", "ip", "-6", "address", "flush", "dev", "tout"),
    _inside("rules flushed", "ip", "-6", "rule", "flush"),
    _inside("routes flushed", "ip", "-6", "route", "flush", "table", "main"),
    _inside("sysctls reset", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"),
    _in_ipv4_endpoint("qdisc deleted", "tc", "qdisc", "del", "dev", "tout", "clsact"),
    _in_ipv4_endpoint("rules flushed", "ip", "-4", "rule", "flush"),
    _in_ipv4_endpoint("routes flushed", "ip", "-4", "route", "flush", "table", "101"),
    _in_ipv4_endpoint("sysctls reset", "sysctl", "-qw", "net.ipv4.ip_forward=0"),
    _of_endpoint("IPv4 endpoint's maps emptied", hosts.empty_maps_of_endpoints, BPF),
    Fault("endpoint deleted", HOST, "{router}", hosts.delete_endpoint, hosts.set_up_again, SHORT, MENDED, plane=SEG6),
    _of_tunnel_device("link down", "ip", "link", "set", "dev", DEVICE, "down"),
    _of_tunnel_device("link deleted", "ip", "link", "del", "dev", DEVICE),
    _of_tunnel_device("addresses flushed", "ip", "-6", "address", "flush", "dev", DEVICE),
    _of_tunnel_device("qdisc deleted", "tc", "qdisc", "del", "dev", DEVICE, "clsact"),
    Fault("home agent's home link down", HOST, f"{{home_agent}}, {FORGETS}", _LINK_DOWN, _LINK_UP, SHORT, ENDS),
    _on_home_agent("addresses flushed", "ip", "-6", "address", "flush", "dev", "{host}-home"),
    _on_ipv4_home_agent("addresses flushed", hosts.on_host("ip", "-4", "address", "flush", "dev", "{host}-home")),
    _on_ipv4_home_agent("rules flushed", hosts.on_host("ip", "-4", "rule", "flush")),
    _on_ipv4_home_agent("tunnel routes flushed", hosts.on_host("ip", "-4", "route", "flush", "proto", "16")),
    _on_ipv4_home_agent("sysctls reset", hosts.on_host("sysctl", "-qw", "net.ipv4.ip_forward=0")),
    _on_ipv4_home_agent("qdisc deleted", hosts.on_host("tc", "qdisc", "del", "dev", "hoaflow-in", "clsact")),
    _on_ipv4_home_agent("maps emptied", hosts.empty_maps_of_home_agent),
    _on_anchor("rules flushed", "ip", "-6", "rule", "flush"),
    _on_anchor("tunnel routes flushed", "ip", "-6", "route", "flush", "proto", "16"),
    _on_anchor("sysctls reset", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"),
    Fault("anchor's tunnels deleted", HOST, "{anchor}", hosts.delete_tunnels, nothing, SHORT, MENDED),
    *_clocks("controller", "{controller}"),
    *_clocks("bridge", "bridge-{anchor}"),
    *_clocks("anchor", "{anchor}"),
    *_clocks("tunnel agent", "agent-{router}"),
    Fault("stateful firewall loaded", HOST, "{router}", hosts.firewall_loads, hosts.firewall_unloads, MEDIUM),
    _flows("own flows deleted", "del-flows", switches.COOKIE),
    _flows("own flows changed", "mod-flows", "table=1,actions=drop"),
    _flows("foreign flow added", "add-flow", "cookie=0x99,priority=7,udp,tp_dst=9,actions=drop", None),
    _flows("flow added with own cookie", "add-flow", switches.OWN_DROP),
    Fault("flow table full, refusing", SWITCH, "{router}", _REFUSING, _UNLIMITED, MEDIUM, MENDED),
    Fault("flow table full, evicting", SWITCH, "{router}", _EVICTING, _UNLIMITED, MEDIUM, MENDED),
    Fault("switch refuses", SWITCH, "{router}", switches.refuse, switches.accept, MEDIUM),
    Fault("stranger is the switch's master", SWITCH, "{router}", _USURP, _GIVE_WAY, MEDIUM, agrees=TOLD_ON),
    Fault("ports renumbered", SWITCH, "{router}", switches.renumber, nothing, SHORT, MENDED, plane=SEG6),
    Fault("two bridges for one home agent", INPUT, "bridge-{anchor}", _TWIN, _NO_TWIN, MEDIUM),
    Fault("flood to unknown home addresses", INPUT, "{home_agent}", inputs.flood, nothing, SHORT),
    Fault("flood of packet-ins", INPUT, "{router}", switches.packet_ins, switches.no_packet_ins, SHORT),
    Fault("bindings of unknown home addresses", INPUT, "{controller}", inputs.unknown_bindings, nothing, SHORT),
    Fault("bindings deleted by an operator", INPUT, "{controller}", inputs.delete_bindings, nothing, SHORT),
)  # fmt: skip
