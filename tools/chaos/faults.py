# SPDX-License-Identifier: Apache-2.0
"""List the faults, with what each may cost: data. `docs/reliability.md` shows this table."""

from dataclasses import dataclass

from tools.chaos import acts
from tools.chaos.acts import Act
from tools.chaos.addresses import CONTROLLERS, Plan
from tools.chaos.timeline import Loss

PROCESSES, NETWORK, HOST, SWITCH, INPUT = "process", "network", "host", "switch", "input"


@dataclass(frozen=True)
class Fault:
    """Describe a fault.

    targets: names; `{router}`, `{home_agent}` and `{controller}` stand for each of them. seconds: how long it lasts, at
    least and at most. loss: what may be lost, None if nothing may; where it is a router's, on its links only.
    """

    name: str
    kind: str
    targets: str
    begin: Act
    end: Act
    seconds: tuple[float, float]
    loss: Loss | None = None

    def targets_in(self, plan: Plan) -> list[str]:
        """Return the names of all that it may befall."""
        names = {"router": plan.routers, "controller": CONTROLLERS}
        names["home_agent"] = tuple(each.name for each in plan.home_agents)
        for word, found in names.items():
            if f"{{{word}}}" in self.targets:
                return [self.targets.format(**{word: each}) for each in found]
        return [self.targets]


def places(target: str) -> frozenset[str]:
    """Return the places that lose packets where a target is broken, none for everywhere."""
    name = target.rpartition("-")[2]
    if name == "r1":
        return frozenset({"cn"})
    if name.startswith("r") and name[1:].isdigit():
        return frozenset({f"link{int(name[1:]) - 1}"})
    return frozenset({name}) if name.startswith("ha") else frozenset()


SHORT, MEDIUM, LONG = (1.0, 5.0), (2.0, 15.0), (5.0, 40.0)
MENDED = Loss(10.0)  # what only lasts until somebody mends it, on a busy machine
# As without hoaflow: while the fault lasts, and until routing is back. Open vSwitch's userspace datapath forwards
# nothing without its database either, and may take 8 s to connect to it again.
ENDS = Loss(15.0, after_end=True)


def _inside(what: str, *command: str) -> Fault:
    """Return a fault inside a router's endpoints."""
    return Fault(f"endpoint's {what}", HOST, "{router}", acts.inside(*command), acts.nothing, SHORT, MENDED)


def _clocks(whose: str, targets: str) -> tuple[Fault, Fault]:
    """Return the faults of a program's clock."""
    return (
        Fault(f"{whose}'s clock ahead", HOST, targets, acts.hour_ahead, acts.right_time, MEDIUM),
        Fault(f"{whose}'s clock behind", HOST, targets, acts.hour_behind, acts.right_time, MEDIUM),
    )


def _flows(name: str, command: str, flow: str, loss: Loss | None = MENDED) -> Fault:
    """Return a fault of a router's flows."""
    return Fault(name, SWITCH, "{router}", acts.flows(command, flow), acts.nothing, SHORT, loss)


_FEW, _MANY = acts.few_descriptors, acts.many_descriptors
_TWIN, _NO_TWIN = acts.second_bridge, acts.no_second_bridge

TABLE = (
    Fault("controller killed", PROCESSES, "{controller}", acts.kill, acts.restart, MEDIUM),
    Fault("controller stopped", PROCESSES, "{controller}", acts.stop, acts.resume, LONG),
    Fault("controller restarted", PROCESSES, "{controller}", acts.end, acts.restart, SHORT),
    Fault("controller without descriptors", PROCESSES, "{controller}", _FEW, _MANY, MEDIUM),
    Fault("bridge killed", PROCESSES, "bridge-{home_agent}", acts.kill, acts.restart, LONG),
    Fault("bridge stopped", PROCESSES, "bridge-{home_agent}", acts.stop, acts.resume, LONG),
    Fault("bridge restarted", PROCESSES, "bridge-{home_agent}", acts.end, acts.restart, SHORT),
    Fault("bridge without descriptors", PROCESSES, "bridge-{home_agent}", _FEW, _MANY, MEDIUM),
    Fault("home agent killed", PROCESSES, "{home_agent}", acts.kill, acts.restart, MEDIUM),
    Fault("home agent stopped", PROCESSES, "{home_agent}", acts.stop, acts.resume, MEDIUM),
    Fault("tunnel agent killed", PROCESSES, "agent-{router}", acts.kill, acts.restart, LONG),
    Fault("tunnel agent stopped", PROCESSES, "agent-{router}", acts.stop, acts.resume, LONG),
    Fault("tunnel agent restarted", PROCESSES, "agent-{router}", acts.end, acts.restart, SHORT),
    Fault("ovs-vswitchd killed", PROCESSES, "ovs-vswitchd-{router}", acts.kill, acts.restart, SHORT, ENDS),
    Fault("ovs-vswitchd stopped", PROCESSES, "ovs-vswitchd-{router}", acts.stop, acts.resume, MEDIUM, ENDS),
    Fault("ovsdb-server killed", PROCESSES, "ovsdb-server-{router}", acts.kill, acts.restart, MEDIUM, ENDS),
    Fault("ovsdb-server stopped", PROCESSES, "ovsdb-server-{router}", acts.stop, acts.resume, MEDIUM, ENDS),
    Fault("etcd member killed", PROCESSES, "etcd-{controller}", acts.kill, acts.restart, MEDIUM),
    Fault("etcd member stopped", PROCESSES, "etcd-{controller}", acts.stop, acts.resume, LONG),
    Fault("etcd without quorum", PROCESSES, "etcd", acts.stop_quorum, acts.resume_quorum, LONG),
    Fault("controller cut off", NETWORK, "{controller}", acts.cut, acts.join, LONG),
    Fault("controller not heard", NETWORK, "{controller}", acts.drop_from, acts.drop_none, LONG),
    Fault("controller deaf", NETWORK, "{controller}", acts.drop_to, acts.drop_none, LONG),
    Fault("controller's link lossy", NETWORK, "{controller}", acts.drop_some, acts.drop_none, LONG),
    Fault("bridge cut off", NETWORK, "{home_agent}", acts.cut, acts.join, LONG),
    Fault("bridge not heard", NETWORK, "{home_agent}", acts.drop_from, acts.drop_none, LONG),
    Fault("bridge deaf", NETWORK, "{home_agent}", acts.drop_to, acts.drop_none, LONG),
    Fault("bridge's link lossy", NETWORK, "{home_agent}", acts.drop_some, acts.drop_none, LONG),
    Fault("router cut off", NETWORK, "{router}", acts.cut, acts.join, LONG),
    Fault("router not heard", NETWORK, "{router}", acts.drop_from, acts.drop_none, LONG),
    Fault("router deaf", NETWORK, "{router}", acts.drop_to, acts.drop_none, LONG),
    Fault("router's link lossy", NETWORK, "{router}", acts.drop_some, acts.drop_none, LONG),
    Fault("core link down", NETWORK, "{router}", acts.core_down, acts.core_up, MEDIUM, ENDS),
    Fault("core link narrow", NETWORK, "{router}", acts.core_narrow, acts.core_wide, MEDIUM),
    Fault("next hop's MAC changed", NETWORK, "{router}", acts.next_hop_changes, acts.nothing, SHORT, MENDED),
    Fault("nftables flushed (router)", HOST, "{router}", acts.flush_firewall, acts.nothing, SHORT, MENDED),
    Fault("nftables flushed (home agent)", HOST, "{home_agent}", acts.flush_firewall, acts.nothing, SHORT, MENDED),
    Fault("endpoint's port down", HOST, "{router}", acts.endpoint_port("down"), acts.nothing, SHORT, MENDED),
    _inside("link down", "ip", "link", "set", "tout", "down"),
    _inside("link renamed", "ip", "link", "set", "enc0", "name", "other0"),
    _inside("link deleted", "ip", "link", "del", "enc0"),
    _inside("addresses flushed", "ip", "-6", "address", "flush", "dev", "tout"),
    _inside("rules flushed", "ip", "-6", "rule", "flush"),
    _inside("routes flushed", "ip", "-6", "route", "flush", "table", "main"),
    _inside("sysctls reset", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"),
    Fault("endpoint deleted", HOST, "{router}", acts.delete_endpoint, acts.set_up_again, SHORT, MENDED),
    *_clocks("controller", "{controller}"),
    *_clocks("bridge", "bridge-{home_agent}"),
    *_clocks("home agent", "{home_agent}"),
    *_clocks("tunnel agent", "agent-{router}"),
    Fault("stateful firewall loaded", HOST, "{router}", acts.firewall_loads, acts.firewall_unloads, MEDIUM),
    _flows("own flows deleted", "del-flows", acts.COOKIE),
    _flows("own flows changed", "mod-flows", "table=1,actions=drop"),
    _flows("foreign flow added", "add-flow", "cookie=0x99,priority=7,udp,tp_dst=9,actions=drop", None),
    _flows("flow added with own cookie", "add-flow", acts.OWN_DROP),
    Fault("flow table full, refusing", SWITCH, "{router}", acts.limit_flows("refuse"), acts.no_limit, MEDIUM, MENDED),
    Fault("flow table full, evicting", SWITCH, "{router}", acts.limit_flows("evict"), acts.no_limit, MEDIUM, MENDED),
    Fault("ports renumbered", SWITCH, "{router}", acts.renumber, acts.nothing, SHORT, MENDED),
    Fault("two bridges for one home agent", INPUT, "bridge-{home_agent}", _TWIN, _NO_TWIN, MEDIUM),
    Fault("flood to unknown home addresses", INPUT, "{home_agent}", acts.flood, acts.nothing, SHORT),
)  # fmt: skip
