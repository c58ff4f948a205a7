# SPDX-License-Identifier: Apache-2.0
"""The command line of `hoaflow-router`."""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import sys

from router.agent import Agent, Interruption
from router.endpoint import Endpoint, home_agent_address
from router.errors import RouterError
from router.ovsdb import EndpointRecord, Ovsdb
from router.setup import setup, teardown
from router.status import as_json, status, table
from tunnel.namespace import NamespaceError
from tunnel.nft import NftError
from tunnel.seg6 import Seg6Error


def main(argv: list[str] | None = None) -> int:
    """Run `hoaflow-router`; returns the exit status: 0 done, 1 failed (said why on stderr), 2 usage."""
    arguments = _parser().parse_args(argv)
    ovsdb = Ovsdb(arguments.db)
    try:
        return {"setup": _setup, "teardown": _teardown, "status": _status, "run": _run}[arguments.command](
            arguments, ovsdb
        )
    except (RouterError, NamespaceError, NftError, Seg6Error) as error:
        print(f"hoaflow-router {arguments.command}: {error}", file=sys.stderr)
        return 1


def _setup(arguments: argparse.Namespace, ovsdb: Ovsdb) -> int:
    for home_agent in arguments.home_agent:
        endpoint = Endpoint(arguments.bridge, home_agent, arguments.kernel_namespace, arguments.mtu)
        if not setup(endpoint, ovsdb, arguments.icmp_source, _say):
            _say(f"bridge {arguments.bridge}, home agent {home_agent}: everything in place, nothing changed")
    return 0


def _teardown(arguments: argparse.Namespace, ovsdb: Ovsdb) -> int:
    recorded = {record.home_agent: record for record in ovsdb.bridge(arguments.bridge).endpoints}
    # A home agent that is named but not recorded may be left over from a setup that was killed.
    wanted: list[EndpointRecord] = [
        recorded.get(home_agent) or Endpoint(arguments.bridge, home_agent).record
        for home_agent in arguments.home_agent or recorded
    ]
    if not [record for record in wanted if teardown(record, arguments.bridge, ovsdb, _say)]:
        _say(f"bridge {arguments.bridge}: nothing there, nothing changed")
    return 0


def _status(arguments: argparse.Namespace, ovsdb: Ovsdb) -> int:
    endpoints = status(arguments.bridge, ovsdb)
    if arguments.json:
        bridge = ovsdb.bridge(arguments.bridge)
        print(json.dumps(as_json(bridge.name, bridge.dpid, endpoints), indent=2))
    elif endpoints:
        print(table(endpoints))
    else:
        print(f"bridge {arguments.bridge}: no tunnel endpoints (hoaflow-router setup makes them)")
    return 1 if any(endpoint.problems for endpoint in endpoints) else 0


def _run(arguments: argparse.Namespace, ovsdb: Ovsdb) -> int:
    logging.basicConfig(
        stream=sys.stderr, level=arguments.log_level, format="%(asctime)s level=%(levelname)s %(message)s"
    )
    interruption = Interruption()
    interruption.install()
    Agent(arguments.controller, arguments.bridge, ovsdb, interruption).run()
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hoaflow-router", description="Tunnel endpoints of an Open vSwitch router, and the agent that keeps them."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="setup | teardown | status | run")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--bridge", required=True, help="the router's Open vSwitch bridge")
    common.add_argument("--db", help="Open vSwitch database, as for ovs-vsctl (default: the system's)")

    making = commands.add_parser("setup", parents=[common], help="make the tunnel endpoints; may be run again")
    _home_agents(making, required=True, help="home agent's address; repeatable")
    making.add_argument(
        "--kernel-namespace",
        metavar="NAME|PATH",
        help="network namespace of the router's kernel side (default: the current one)",
    )
    making.add_argument(
        "--mtu", type=int, default=1500, help="MTU of the links towards care-of addresses (default: %(default)s)"
    )
    making.add_argument(
        "--icmp-source",
        type=_ipv6,
        metavar="ADDRESS",
        help="the router's address that ICMPv6 errors come from (default: the first global one of its kernel)",
    )

    removing = commands.add_parser("teardown", parents=[common], help="remove the tunnel endpoints")
    _home_agents(removing, required=False, help="only this home agent's; repeatable (default: all of the bridge)")

    showing = commands.add_parser(
        "status", parents=[common], help="show the tunnel endpoints; exit status 1 if something is missing"
    )
    showing.add_argument("--json", action="store_true", help="as JSON")

    running = commands.add_parser("run", parents=[common], help="run the agent until SIGTERM")
    running.add_argument("--controller", required=True, type=_url, metavar="URL", help="http://HOST:PORT")
    running.add_argument(
        "--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="default: %(default)s"
    )
    return parser


def _home_agents(parser: argparse.ArgumentParser, required: bool, help: str) -> None:
    parser.add_argument(
        "--home-agent", action="append", required=required, type=_home_agent, metavar="ADDRESS", help=help
    )


def _home_agent(text: str) -> str:
    try:
        return home_agent_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected an IPv6 address, got {text!r}") from error


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"expected a URL such as http://192.0.2.1:8080, got {text!r}")
    return text
