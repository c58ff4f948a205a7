# SPDX-License-Identifier: Apache-2.0
"""Diagnose a router, with what to do about each problem (`hoaflow-router doctor`)."""

import shutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hoaflow.linux import AF_INET
from hoaflow.router.arp import ports_that_answer
from hoaflow.router.endpoint import OUTER_HEADER, OUTER_HEADER_IPV4, Endpoint
from hoaflow.router.errors import NoRoute, RouterError
from hoaflow.router.firewall import Probe, what_drops
from hoaflow.router.flow import selftest
from hoaflow.router.flow.kernel import features
from hoaflow.router.flow.probes import flow_probes
from hoaflow.router.flow.record import FlowPorts, FlowRecord
from hoaflow.router.flow.status import checks_sources_strictly, forwards_ipv4, problems
from hoaflow.router.ovsdb import Bridge, Ovsdb
from hoaflow.router.probes import endpoint_probes
from hoaflow.router.status import status as route_status
from hoaflow.tunnel import links
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.namespace import Namespace

OK, WARNING, FAILED = "ok", "warning", "failed"
PROGRAMS = {"ovs-vsctl": "openvswitch-switch", "ovs-ofctl": "openvswitch-switch", "nft": "nftables"}


class Finding(NamedTuple):
    """One line of the diagnosis: the check, its result (OK, WARNING, FAILED), details, and what to do."""

    check: str
    result: str
    detail: str
    help: str = ""


def kernel_findings() -> list[Finding]:
    """Check whether this host's kernel can run the flow backend. Raises RouterError without root."""
    return [
        Finding(
            feature.what,
            FAILED if feature.family != AF_INET else WARNING,
            feature.problem + ": home agents with an IPv4 address need --backend route" * (feature.family == AF_INET),
            feature.help,
        )
        if feature.problem
        else Finding(feature.what, OK, "works")
        for feature in features()
    ]


def findings(bridge_name: str, ovsdb: Ovsdb) -> Iterator[Finding]:
    """Check a bridge end to end, and yield the findings. Raises RouterError without root."""
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            yield Finding(program, FAILED, "not found", f"install Debian's package {package}")
    try:
        bridge = ovsdb.bridge(bridge_name)
    except RouterError as error:
        yield Finding("Open vSwitch", FAILED, str(error), "start Open vSwitch, or name a bridge of `ovs-vsctl list-br`")
        return
    flow = FlowPorts(ovsdb).records(bridge_name)
    # What the flow backend needs counts as failed only if it is set up, and does not matter beside the other backend.
    for finding in [] if bridge.endpoints else kernel_findings():
        yield finding if flow or finding.result == OK else finding._replace(result=WARNING)
    yield _datapath(bridge, bool(flow))
    yield from _arp(bridge, ovsdb)
    if flow:
        yield from _ipv4(bridge_name)
        yield _mtu(bridge.name, ovsdb)
        for record in flow:
            yield from _flow_backend(record, bridge, ovsdb)
    elif bridge.endpoints:
        yield from _route_backend(bridge_name, ovsdb)
    else:
        yield Finding("backend", FAILED, "not set up", f"run hoaflow-router setup --bridge {bridge_name}")


def _datapath(bridge: Bridge, flow: bool) -> Finding:
    if not bridge.dpid:
        return Finding("datapath", FAILED, "the bridge has no datapath yet", "start ovs-vswitchd")
    kind = bridge.datapath_type or "system"
    if kind == "system":
        return Finding("datapath", OK, "the kernel's (system)")
    if bridge.endpoints:
        return Finding("datapath", OK, f"{kind}, which the route backend supports")
    return Finding(
        "datapath",
        FAILED if flow else WARNING,
        f"{kind}, which only the route backend supports",
        f"for the flow backend: ovs-vsctl set bridge {bridge.name} datapath_type=system",
    )


def _arp(bridge: Bridge, ovsdb: Ovsdb) -> Iterator[Finding]:
    """Check that IPv4 packets do not pass by the bridge, whose flows would see none of them."""
    ports = ports_that_answer(bridge, ovsdb)
    if answering := [port for port, answers in ports.items() if answers]:
        # In sysctl(8), a slash stands for a dot within a name.
        settings = (f"net.ipv4.conf.{port.replace('.', '/')}.arp_ignore=8" for port in answering)
        yield Finding(
            "ARP at ports",
            WARNING,
            f"the kernel answers at {', '.join(answering)} for {bridge.name}'s IPv4 addresses: packets pass by the "
            "bridge, and IPv4 does not go direct",
            f"sysctl -w {' '.join(settings)}, and keep it in /etc/sysctl.d; neighbours then learn the bridge's address",
        )
    elif ports:
        yield Finding("ARP at ports", OK, "left to the bridge")


def _ipv4(bridge: str) -> Iterator[Finding]:
    if links.link(None, bridge) is None:
        return  # reported as a problem of the tunnel
    without = "IPv4 home addresses stay with the home agent"
    yield (
        Finding(f"IPv4 forwarding ({bridge})", OK, "on")
        if forwards_ipv4(bridge)
        else Finding(
            f"IPv4 forwarding ({bridge})",
            WARNING,
            f"off: {without}",
            "sysctl -w net.ipv4.ip_forward=1",
        )
    )
    yield (
        Finding("rp_filter", WARNING, f"strict: {without}", f"sysctl -w net.ipv4.conf.{bridge}.rp_filter=2")
        if checks_sources_strictly(bridge)
        else Finding("rp_filter", OK, "not strict")
    )


def _flow_backend(flow: FlowRecord, bridge: Bridge, ovsdb: Ovsdb) -> Iterator[Finding]:
    of_family = " (IPv4)" * flow.is_ipv4
    broken = problems(flow, bridge.name, ovsdb)
    for problem in broken:
        what, _, remedy = problem.partition(": ")
        yield Finding(f"tunnel{of_family}", FAILED, what, remedy or f"run hoaflow-router setup --bridge {bridge.name}")
    if not broken:
        yield Finding(f"tunnel{of_family}", OK, "ports, device, address, diversions and packet filter are as set up")
    yield _tunnel_mtu(flow, bridge.name, f"MTU in tunnels{of_family}")
    if not broken:
        yield _firewall(f"firewall{of_family}", None, lambda: flow_probes(flow, bridge.name, ovsdb.db))
        reason = selftest.round_trip(flow, bridge.name, ovsdb.db)
        yield (
            Finding(f"self-test packet{of_family}", OK, "went through the tunnel and came back")
            if reason is None
            else Finding(
                f"self-test packet{of_family}",
                FAILED,
                reason,
                f"look for a packet filter that drops {'protocol 4' if flow.is_ipv4 else 'next header 41'} (`nft list "
                f"ruleset`), and for errors of the tunnel device (`ip -s link show {flow.sender}`)",
            )
        )


def _route_backend(bridge: str, ovsdb: Ovsdb) -> Iterator[Finding]:
    for found in route_status(bridge, ovsdb):
        for problem in found.problems:
            what, _, remedy = problem.partition(": ")
            yield Finding(f"endpoint for {found.home_agent}", FAILED, what, remedy)
        if not found.problems:
            counts = f"routes: {found.routes}, pairs: {found.pairs}"
            yield Finding(f"endpoint for {found.home_agent}", OK, f"{found.encapsulates_by}; {counts}")
    for record in ovsdb.bridge(bridge).endpoints:
        endpoint = Endpoint.of(bridge, record)
        check = f"firewall, from {endpoint.kernel_port}"
        yield _firewall(check, endpoint.kernel_namespace, lambda: endpoint_probes(endpoint))  # noqa: B023


def _firewall(check: str, namespace: Namespace, probes: Callable[[], list[Probe]]) -> Finding:
    try:
        dropped = what_drops(namespace, probes())
    except NoRoute as error:
        way = "add one (ip route add): without it, what does not go direct does not reach the home agent either"
        return Finding(check, FAILED, f"not tried: {error}", way)
    except TunnelError as error:
        return Finding(check, WARNING, f"not tried: {error}", "look for a packet filter: `nft list ruleset`")
    if dropped is None:
        return Finding(check, OK, "drops nothing that goes direct")
    return Finding(check, FAILED, f"drops {dropped.what}: {dropped.rule}", dropped.remedy)


def _mtu(bridge: str, ovsdb: Ovsdb) -> Finding:
    """Check that packets into and out of the tunnel fit through the bridge's own interface."""
    own = links.link(None, bridge)
    mtus = {}
    for port in ovsdb.run("list-ports", bridge).split():
        if (found := links.link(None, port)) is not None:
            mtus[port] = found["mtu"]
    if own is None or not mtus or own["mtu"] >= max(mtus.values()):
        return Finding("MTU", OK, f"{own['mtu'] if own else '-'} on {bridge}, no port has more")
    widest = max(mtus, key=lambda port: mtus[port])
    return Finding(
        "MTU",
        WARNING,
        f"{own['mtu']} on {bridge}, {mtus[widest]} on its port {widest}: full-sized tunnel packets are dropped",
        f"ovs-vsctl set interface {bridge} mtu_request={mtus[widest]}",
    )


def _tunnel_mtu(flow: FlowRecord, bridge: str, check: str) -> Finding:
    """Check that a packet that fits into a tunnel also fits through the bridge's interface with the outer header."""
    own, needed = links.link(None, bridge), flow.mtu + (OUTER_HEADER_IPV4 if flow.is_ipv4 else OUTER_HEADER)
    if own is None or own["mtu"] >= needed:
        return Finding(check, OK, str(flow.mtu))
    return Finding(
        check,
        WARNING,
        f"{flow.mtu} needs links of {needed}, and {bridge} has {own['mtu']}: IPv4 packets between the two are lost",
        f"hoaflow-router setup --bridge {bridge} --mtu {own['mtu']}",
    )


def verdict(found: list[Finding], bridge: str | None) -> str:
    """Return the conclusion of all findings, and the next step."""
    failed, warnings = (sum(finding.result == result for finding in found) for result in (FAILED, WARNING))
    if failed:
        told = f"{failed} of {len(found)} checks failed: follow the hint below each, then run the doctor again"
        other = "hoaflow-router setup --bridge BRIDGE --backend route --home-agent ADDRESS"
        return told if bridge else f"{told}, or take the other backend: {other}"
    if bridge is None:
        return "this kernel can run the flow backend. Next: hoaflow-router setup --bridge BRIDGE"
    works = f"bridge {bridge} can take traffic off its home agents"
    if warnings:
        works += f", with {warnings} warning{'s' * (warnings > 1)}"
    return f"{works}. Next, unless it runs: hoaflow-router run --bridge {bridge} --controller URL"


def table(found: list[Finding]) -> str:
    """Format the findings, one line each, with what to do below it."""
    width = max(len(finding.check) for finding in found)
    lines = []
    for finding in found:
        lines.append(f"{finding.result:7}  {finding.check:{width}}  {finding.detail}")
        if finding.result != OK and finding.help:
            lines.append(f"{'':9}{'':{width}}  → {finding.help}")
    return "\n".join(lines)
