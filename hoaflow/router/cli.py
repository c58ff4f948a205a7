# SPDX-License-Identifier: Apache-2.0
"""The command line `hoaflow-router`."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from hoaflow import logs
from hoaflow.arguments import address, argument, port
from hoaflow.client.access import add_controller_option, add_options, from_arguments
from hoaflow.client.errors import AccessError
from hoaflow.linux import AF_INET, AF_INET6
from hoaflow.router import doctor
from hoaflow.router.agent import Agent
from hoaflow.router.endpoint import (
    MINIMUM_MTU,
    OUTER_HEADER,
    OUTER_HEADER_IPV4,
    Endpoint,
    home_agent_address,
    tunnel_mtu,
)
from hoaflow.router.errors import NoBridge, RouterError
from hoaflow.router.firewall import Probe, what_drops
from hoaflow.router.flow import setup as flow_setup
from hoaflow.router.flow import status as flow_status
from hoaflow.router.flow.probes import flow_probes
from hoaflow.router.flow.record import FLOW, RECEIVE_UDP, TRANSMIT_UDP, FlowPorts, FlowRecord, plan
from hoaflow.router.interruption import Interruption
from hoaflow.router.ovsdb import Bridge, EndpointRecord, Ovsdb
from hoaflow.router.probes import endpoint_probes
from hoaflow.router.setup import setup, teardown
from hoaflow.router.status import as_json, status, table
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.links import family_of
from hoaflow.tunnel.namespace import Namespace, cookie

ROUTE, AUTO = "route", "auto"


DESCRIPTION = "Set up an Open vSwitch router's tunnels, and run the agent that keeps them."
EPILOG = """\
examples:
  hoaflow-router doctor                     can this host do it, and how?
  hoaflow-router setup --bridge br0 --home-agent 2001:db8:99::1
  hoaflow-router run --bridge br0 --controller http://192.0.2.1:8080 \\
      --token-file router-1.token
  hoaflow-router status --bridge br0
  hoaflow-router teardown --bridge br0      undo setup

All commands need root. There are no files: setup records what it made in Open
vSwitch's database, in external_ids of the ports it added and of row
Open_vSwitch. docs/backends.md explains the two backends.

exit status: 0 done; 1 failed, or something is wrong (it says what); 2 wrong options
"""
SETUP = """\
Make what the router needs to encapsulate and decapsulate: with the flow backend,
two tunnel ports and a kernel device; with the route backend, a network namespace
per home agent. It reports what it makes, undoes it if it fails, and may be run
again. Traffic goes direct only while `hoaflow-router run` is running, too.
"""
RUN = """\
Follow the tunnel list of the router's master among the controllers, and have the
kernel carry it. The agent only connects outwards. If it dies, or the master does
not hear from it for longer than its lease (10 s, the controller's setting
agent_lease), this router's traffic takes the home agents' path. SIGTERM ends it
and leaves tunnels and flows in place.
"""
TEARDOWN = """\
Remove what setup made. Stop `run` first: the controller then sends the traffic
to the home agents.
"""


def main(argv: list[str] | None = None) -> int:
    """Run `hoaflow-router` and return its exit status: 0 done, 1 failed (stderr says why), 2 wrong usage."""
    arguments = build_parser().parse_args(argv)
    ovsdb = Ovsdb(arguments.db)
    try:
        commands = {"setup": _setup, "teardown": _teardown, "status": _status, "run": _run, "doctor": _doctor}
        return commands[arguments.command](arguments, ovsdb)
    except (TunnelError, AccessError) as error:
        print(f"hoaflow-router {arguments.command}: {error}", file=sys.stderr)
        return 1


def _setup(arguments: argparse.Namespace, ovsdb: Ovsdb) -> int:
    bridge = ovsdb.bridge(arguments.bridge)
    backend = arguments.backend
    if backend == AUTO:
        # Keep the present backend: changing it is the operator's decision.
        backend = FLOW if FlowPorts(ovsdb).has(bridge.name) else ROUTE if bridge.endpoints else AUTO
    if backend != ROUTE:
        try:
            _setup_flow(arguments, bridge, ovsdb)
            return 0
        except TunnelError as error:
            if backend != AUTO:
                raise
            _say(f"backend route, because: {error}")
    _setup_route(arguments, ovsdb)
    return 0


def _setup_flow(arguments: argparse.Namespace, bridge: Bridge, ovsdb: Ovsdb) -> None:
    """Set up the flow backend for the families of the home agents, IPv6 if none is named. Raises TunnelError."""
    if cookie(arguments.kernel_namespace) != cookie(None):
        raise RouterError(
            f"the flow backend is not possible here: it needs the router's kernel in Open vSwitch's own network "
            f"namespace, not in {arguments.kernel_namespace}"
        )
    wanted = [_wanted_flow(arguments, bridge.name, family) for family in _families(arguments.home_agent)]
    for each in wanted:
        flow_setup.check(bridge, FlowPorts(ovsdb), each)  # all, before anything is made for one
    changed = [each for each in wanted if flow_setup.setup(bridge, ovsdb, each, _say)]
    if not changed:
        _say(f"bridge {bridge.name}, flow backend: everything in place, nothing changed")
    elif arguments.backend == AUTO:
        devices = " and ".join("ipip" if each.is_ipv4 else "ip6_tunnel" for each in wanted)
        _say(f"backend flow, because: Open vSwitch's kernel datapath and the kernel's {devices} are there")
    for record in FlowPorts(ovsdb).records(bridge.name):
        if record.is_ipv4:
            _say(f"note: {flow_status.NO_IPV6_INSIDE}")
        _try_packet_filter(None, functools.partial(flow_probes, record, bridge.name, ovsdb.db))


def _families(home_agents: Sequence[str]) -> list[int]:
    """Return the families of home agents, IPv6 first, and IPv6 without any."""
    found = {family_of(home_agent) for home_agent in home_agents}
    return sorted(found, reverse=True) or [AF_INET6]


def _wanted_flow(arguments: argparse.Namespace, bridge: str, family: int) -> FlowRecord:
    """Return what the options ask for. Raises RouterError if the links are too narrow."""
    header = OUTER_HEADER if family == AF_INET6 else OUTER_HEADER_IPV4
    mtu = tunnel_mtu(arguments.mtu, header)
    if mtu < MINIMUM_MTU:
        raise RouterError(
            f"--mtu {arguments.mtu}: the flow backend needs links of {MINIMUM_MTU + header} octets, as nothing "
            f"there keeps packets of {mtu + 1} to {MINIMUM_MTU} from the tunnel; take --backend route"
        )
    if family == AF_INET6:
        return plan(bridge, arguments.transmit_udp, arguments.receive_udp, mtu, "")
    return plan(bridge, arguments.transmit_udp_ipv4, arguments.receive_udp_ipv4, mtu, "", family=family)


def _setup_route(arguments: argparse.Namespace, ovsdb: Ovsdb) -> None:
    if not arguments.home_agent:
        raise RouterError("the route backend needs the home agents: name them with --home-agent")
    if FlowPorts(ovsdb).has(arguments.bridge):
        raise RouterError(f"bridge {arguments.bridge} has the flow backend: run teardown first")
    for home_agent in arguments.home_agent:
        endpoint = Endpoint(arguments.bridge, home_agent, arguments.kernel_namespace, arguments.mtu)
        if not setup(endpoint, ovsdb, arguments.icmp_source, _say):
            _say(f"bridge {arguments.bridge}, home agent {home_agent}: everything in place, nothing changed")
        _try_packet_filter(endpoint.kernel_namespace, lambda: endpoint_probes(endpoint))  # noqa: B023


def _try_packet_filter(namespace: Namespace, probes: Callable[[], list[Probe]]) -> None:
    try:
        dropped = what_drops(namespace, probes())
    except TunnelError as error:
        _say(f"warning: whether the router's packet filter drops what goes direct could not be tried: {error}")
        return
    if dropped is not None:
        _say(f"warning: {dropped}. To do: {dropped.remedy}")


def _teardown(arguments: argparse.Namespace, ovsdb: Ovsdb) -> int:
    try:
        endpoints = list(ovsdb.bridge(arguments.bridge).endpoints)
    except NoBridge:  # it was removed with its ports, but not what else a backend consists of
        endpoints = ovsdb.recorded(arguments.bridge)
        if not endpoints and not FlowPorts(ovsdb).has(arguments.bridge):
            raise
    recorded = {record.home_agent: record for record in endpoints}
    if arguments.home_agent and FlowPorts(ovsdb).has(arguments.bridge):
        raise RouterError(
            f"bridge {arguments.bridge} has the flow backend, one for all home agents: teardown without --home-agent "
            f"removes it"
        )
    # An endpoint that is named but not recorded may be left over from a setup of version 0.1 that was killed.
    wanted: list[EndpointRecord] = [
        recorded.get(home_agent) or Endpoint(arguments.bridge, home_agent).record
        for home_agent in arguments.home_agent or recorded
    ]
    removed = [record for record in wanted if teardown(record, arguments.bridge, ovsdb, _say)]
    flow = not arguments.home_agent and flow_setup.teardown(arguments.bridge, ovsdb, _say)
    if not removed and not flow:
        _say(f"bridge {arguments.bridge}: nothing there, nothing changed")
    return 0


def _status(arguments: argparse.Namespace, ovsdb: Ovsdb) -> int:
    bridge = ovsdb.bridge(arguments.bridge)
    endpoints = status(bridge.name, ovsdb)
    flow = {
        record.family: flow_status.status(record, bridge.name, ovsdb)
        for record in FlowPorts(ovsdb).records(bridge.name)
    }
    if arguments.json:
        described = as_json(bridge.name, bridge.dpid, endpoints)
        described["backend"] = FLOW if flow else ROUTE if endpoints else None
        for member, family in (("flow", AF_INET6), ("flow_ipv4", AF_INET)):
            described[member] = asdict(flow[family]) if family in flow else None
        print(json.dumps(described, indent=2))
    elif flow:
        print("\n".join(map(flow_status.table, flow.values())))
    elif endpoints:
        print(table(endpoints))
    else:
        print(f"bridge {arguments.bridge}: no backend (hoaflow-router setup makes one)")
    problems = [*(each.problems for each in endpoints), *(each.problems for each in flow.values())]
    return 1 if any(problems) else 0


def _doctor(arguments: argparse.Namespace, ovsdb: Ovsdb) -> int:
    found = doctor.kernel_findings() if arguments.bridge is None else list(doctor.findings(arguments.bridge, ovsdb))
    healthy = all(finding.result != doctor.FAILED for finding in found)
    if arguments.json:
        lines = [finding._asdict() for finding in found]
        print(json.dumps({"bridge": arguments.bridge, "healthy": healthy, "findings": lines}, indent=2))
    else:
        print(doctor.table(found), doctor.verdict(found, arguments.bridge), sep="\n\n")
    return 0 if healthy else 1


def _run(arguments: argparse.Namespace, ovsdb: Ovsdb) -> int:
    logs.set_up(arguments, public=arguments.controller)
    access = from_arguments(arguments)
    interruption = Interruption()
    interruption.install()
    Agent(arguments.controller, access, arguments.bridge, ovsdb, interruption, arguments.install).run()
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="hoaflow-router",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    metavar = "setup | teardown | status | run | doctor"
    commands = parser.add_subparsers(dest="command", required=True, metavar=metavar)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--bridge", required=True, help="the router's Open vSwitch bridge")
    _database(common)

    making = commands.add_parser(
        "setup", parents=[common], help="set up the router's backend; may be run again", description=SETUP
    )
    making.add_argument(
        "--backend",
        choices=[AUTO, FLOW, ROUTE],
        default=AUTO,
        help="flow: OpenFlow sets the tunnel, in the kernel datapath; route: one kernel route per binding, with any "
        "datapath; auto (default): the present one, else flow if possible, else route",
    )
    _home_agents(
        making,
        help="a home agent's address; repeatable. The flow backend serves all of a family, IPv6 if none is named",
    )
    for option, defaults in (("--transmit-udp", TRANSMIT_UDP), ("--receive-udp", RECEIVE_UDP)):
        for family, suffix, of in ((AF_INET6, "", ""), (AF_INET, "-ipv4", ", for IPv4 outer headers")):
            making.add_argument(
                option + suffix,
                type=port,
                default=defaults[family],
                metavar="PORT",
                help=f"flow backend{of}: a UDP port number that no other Geneve port of the host has (default: "
                f"%(default)s)",
            )
    making.add_argument(
        "--kernel-namespace",
        metavar="NAME|PATH",
        help="network namespace of the router's kernel (default: the current one)",
    )
    making.add_argument(
        "--mtu",
        type=int,
        default=1500,
        metavar="BYTES",
        help="MTU of the links towards care-of addresses (default: %(default)s)",
    )
    making.add_argument(
        "--icmp-source",
        action="append",
        default=[],
        type=address,
        metavar="ADDRESS",
        help="route backend: the router's address that ICMPv6 errors come from; repeat for ICMP and IPv4 (default: the "
        "first global one of its kernel)",
    )

    removing = commands.add_parser(
        "teardown", parents=[common], help="remove the router's backend", description=TEARDOWN
    )
    _home_agents(removing, help="only this home agent's endpoint; repeatable (default: all of the bridge)")

    showing = commands.add_parser(
        "status", parents=[common], help="show the router's backend; exit status 1 if something is missing"
    )
    showing.add_argument("--json", action="store_true", help="as JSON")

    running = commands.add_parser("run", parents=[common], help="run the agent until SIGTERM", description=RUN)
    running.add_argument(
        "--install",
        choices=["everything", "on-demand"],
        help="which bindings' flows the router's switch has: everything, or on-demand: of those alone whose packets it "
        "sees, from the first one on (default: the controller's setting install)",
    )
    add_controller_option(running)
    add_options(running)
    logs.add_options(running)

    checking = commands.add_parser(
        "doctor", help="check this router end to end, and say what to do; exit status 1 if something does not work"
    )
    checking.add_argument("--bridge", help="the router's Open vSwitch bridge (default: check only the kernel)")
    _database(checking)
    checking.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--db", help="Open vSwitch database, as for ovs-vsctl (default: the system's)")


def _home_agents(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument(
        "--home-agent", action="append", default=[], type=argument(home_agent_address), metavar="ADDRESS", help=help
    )
