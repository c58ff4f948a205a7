# SPDX-License-Identifier: Apache-2.0
"""Start `ha-bridge`, which keeps the controller in step with a home agent's binding cache."""

import argparse
import random
import socket
import sys
import time
from functools import partial

from ha_bridge.client import ControllerClient
from ha_bridge.daemon import Daemon
from ha_bridge.home_agent import HomeAgent
from ha_bridge.kernel_watch import KernelWatch
from ha_bridge.members import Members
from ha_bridge.metrics import BridgeCollector
from ha_bridge.model import MIPV4, MIPV6, PMIPV6
from ha_bridge.owner_watch import OwnerWatch
from ha_bridge.process_sockets import registration_sockets
from ha_bridge.proxy_answers import DIALECTS
from ha_bridge.selection import Ipv4Registrations, ProxyRegistrations, SettledKernel
from ha_bridge.settings import RENEWALS, Settings
from ha_bridge.sources import KernelSource, Source, TerminalSource
from ha_bridge.terminal_client import TerminalClient
from hoaflow import logs, metrics
from hoaflow.arguments import address, argument, host_port, ip_prefix, prefix_length, seconds, whole_seconds
from hoaflow.client.access import Access, add_controller_option, add_options, from_arguments, warn_of_clear_token
from hoaflow.client.directory import MemberAddress
from hoaflow.client.errors import AccessError
from hoaflow.etcd import EtcdAccess
from hoaflow.etcd import options as etcd
from hoaflow.etcd.errors import EtcdAccessError
from hoaflow.home_agent.pods.keys import Keys
from hoaflow.metrics.server import MetricsServer, registry_of_process

LOG = logs.Log("bridge")

DESCRIPTION = """\
Follows a home agent's binding cache and keeps the controllers in step with it:
announces the home agent, renews its lease, and reports each home registration,
handover and deregistration. Runs beside the home agent, in its network namespace.
If it stops or loses all controllers, all traffic returns to the home agent's path
within the lease.
"""
EPILOG = """\
examples:
  ha-bridge --controller http://192.0.2.1:8080 --token-file bridge-1.token \\
      --home-agent 2001:db8:99::1 --home-prefix 2001:db8:99::/64
  ha-bridge --controller http://192.0.2.1:8080 http://192.0.2.2:8080 ...
  ha-bridge ... --no-console      where the home agent has no virtual terminal
  ha-bridge ... --no-netlink      outside the home agent's network namespace
  ha-bridge ... --protocol pmipv6 beside an LMA of Proxy Mobile IPv6
  ha-bridge ... --protocol mipv4  beside a home agent of Mobile IPv4
  ha-bridge ... --protocol mipv4 --console 127.0.0.1:7777
                                  beside hoaflow-ha, with lifetimes and identifications
  ha-bridge ... --cache etcd://192.0.2.1:2379/home
                                  beside one of several pods: silent while another serves

It needs CAP_NET_ADMIN to read the kernel's IPsec policies, except with --no-netlink.

exit status: 0 after SIGTERM or SIGINT, 1 after a failure, 2 for wrong options
"""

POLL_WITH_EVENTS, POLL_ALONE = 3.0, 1.0
DEFAULT_CONSOLE = "127.0.0.1", 7777


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="ha-bridge",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_controller_option(parser)
    parser.add_argument("--home-agent", type=address, required=True, metavar="ADDR", help="the home agent's address")
    parser.add_argument(
        "--home-prefix",
        type=ip_prefix,
        required=True,
        action="append",
        metavar="PREFIX",
        help="a home prefix, a mobile network prefix outside it, or the prefix of IPv4 home addresses (repeatable)",
    )
    parser.add_argument(
        "--protocol",
        choices=(MIPV6, PMIPV6, MIPV4),
        default=MIPV6,
        help=f"{PMIPV6}: the home agent is an LMA of Proxy Mobile IPv6; {MIPV4}: one of Mobile IPv4, all addresses are"
        " IPv4, and its kernel alone is followed unless --console is given (default: %(default)s)",
    )
    parser.add_argument(
        "--console-command",
        choices=DIALECTS,
        default="pmip",
        help=f"with {PMIPV6}, what the terminal is asked: pmip (OAI PMIPv6), dmm (MAD-PMIPv6; default: %(default)s)",
    )
    parser.add_argument(
        "--home-network-prefix-length",
        type=prefix_length,
        metavar="BITS",
        help=f"with {PMIPV6}, length of the mobile nodes' prefixes where the LMA shows one address of each"
        " (default: 128 for pmip, 64 for dmm)",
    )
    parser.add_argument(
        "--group", metavar="NAME", help="share home prefixes with home agents and LMAs announced with the same name"
    )
    console = parser.add_mutually_exclusive_group()
    console.add_argument(
        "--console",
        type=host_port,
        metavar="HOST:PORT",
        help="the home agent's virtual terminal, connected only during a query (default: {}:{}; with {}: none)".format(
            *DEFAULT_CONSOLE, MIPV4
        ),
    )
    console.add_argument("--no-console", action="store_true", help="follow the kernel only, without a terminal")
    parser.add_argument(
        "--no-netlink",
        action="store_true",
        help="poll the terminal only, outside the home agent's network namespace",
    )
    parser.add_argument(
        "--lease",
        type=whole_seconds(1),
        default=10,
        metavar="SECONDS",
        help="how long routers offload traffic after the bridge's last renewal (default: %(default)s)",
    )
    parser.add_argument(
        "--renew",
        type=seconds,
        default=3.0,
        metavar="SECONDS",
        help="interval between renewals of the lease, at most half of it; with several controllers never more than"
        f" 1/{RENEWALS} of it (default: %(default)s)",
    )
    parser.add_argument(
        "--snapshot",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="interval between reports of the whole binding cache, which repair missed changes (default: %(default)s)",
    )
    parser.add_argument(
        "--poll",
        type=seconds,
        metavar="SECONDS",
        help="longest interval between readings of the binding cache; the kernel's events cause more"
        f" (default: {POLL_WITH_EVENTS} with netlink, else {POLL_ALONE})",
    )
    parser.add_argument(
        "--restore",
        action="store_true",
        help="after a restart of the home agent, restore the bindings it forgot through the terminal (`bc add`)",
    )
    parser.add_argument(
        "--cache",
        type=argument(etcd.endpoints_and_name),
        metavar="etcd://HOST:PORT[,...]/NAME",
        help="the home agent beside is one of several pods, with this --cache: say nothing while another pod serves",
    )
    parser.add_argument(
        "--pod",
        metavar="NAME",
        help="with --cache, the name of the pod beside (default: the host's)",
    )
    etcd.add_options(parser)
    parser.add_argument("--source-address", metavar="ADDR", help="connect to the controllers from this address")
    add_options(parser)
    metrics.add_option(parser)
    logs.add_options(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the bridge until SIGTERM or SIGINT and return its exit status.

    0 after a signal, 1 after a failure, 2 for wrong arguments.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if (wrong := _of_another_family(args)) is not None:
        parser.error(wrong)
    # Of the home agents of Mobile IPv4 only hoaflow-ha has a terminal.
    args.no_console |= args.protocol == MIPV4 and args.console is None
    args.console = args.console or DEFAULT_CONSOLE
    if args.no_console and args.no_netlink:
        parser.error("--no-console, or --protocol mipv4 without --console, and --no-netlink leave nothing to follow")
    if args.no_console and args.restore:
        parser.error("--restore needs the terminal, which --no-console and --protocol mipv4 do without")
    if args.protocol == MIPV4 and args.restore:
        parser.error(f"--restore is for home agents of {MIPV6}: no terminal of {MIPV4} takes bindings")
    if args.protocol == PMIPV6 and args.restore:
        parser.error("--restore is for home agents, and --protocol pmipv6 for LMAs: MAGs register anew by themselves")
    if args.cache is not None and args.protocol != MIPV6:
        parser.error(f"--cache is for home agents of {MIPV6}: no others have several pods")
    if args.cache is not None and args.restore:
        parser.error("--restore is for home agents that forget bindings in a restart: pods find them in --cache")
    if args.renew * 2 > args.lease:
        parser.error(f"--renew {args.renew:g} must be at most half of --lease {args.lease:g}")
    if args.no_netlink and args.poll is not None and args.poll > args.lease:
        parser.error(f"--poll {args.poll:g} must be at most --lease {args.lease} where only polling shows changes")
    try:
        access, etcd_access = from_arguments(args), etcd.from_arguments(args)
    except (AccessError, EtcdAccessError) as error:
        parser.error(str(error))
    logs.set_up(args, public=[*args.controller, args.home_agent, *(args.cache[0] if args.cache else ())])
    polls_alone = args.no_netlink or args.no_console  # reading the kernel's view costs nothing
    poll = args.poll or (POLL_ALONE if polls_alone else POLL_WITH_EVENTS)
    kernel, pods = not args.no_netlink, args.cache is not None
    settings = Settings(args.lease, args.renew, args.snapshot, poll, kernel, pods)
    try:
        _daemon(args, settings, access, etcd_access).run()
    except PermissionError as error:
        LOG.error("failed", reason=f"{error}; run with CAP_NET_ADMIN, or with --no-netlink")
        return 1
    except Exception:
        LOG.exception("failed")
        return 1
    return 0


def _daemon(args: argparse.Namespace, settings: Settings, access: Access, etcd_access: EtcdAccess) -> Daemon:
    rng = random.Random()
    # Numbers of changes begin with the time, so that those of a restarted bridge are above those of before.
    home_agent = HomeAgent(settings, LOG.log, rng, first_change=time.time_ns() // 1_000_000)
    members = Members(args.controller, home_agent, settings, LOG.log, rng)
    daemon: Daemon

    def connect(address: MemberAddress) -> tuple[ControllerClient, ControllerClient]:
        warn_of_clear_token(str(address), access)
        lease, bindings = (
            ControllerClient(
                address,
                args.home_agent,
                args.home_prefix,
                args.lease,
                access,
                args.source_address,
                args.protocol,
                args.group,
            )
            for _ in range(2)
        )
        return lease, bindings

    kernel = None
    proxied = args.protocol == PMIPV6
    length = args.home_network_prefix_length or DIALECTS[args.console_command].prefix_length if proxied else 128
    if not args.no_netlink:
        keep_view = args.no_console or proxied
        kernel = KernelWatch(args.home_agent, args.home_prefix, lambda: daemon.changed(), keep_view, length)
    else:
        LOG.warning(
            "ipsec-unchecked",
            reason="without netlink the home agent's IPsec policies are unknown",
        )
    source = _source(args, kernel, length)
    daemon = Daemon(home_agent, members, source, connect)
    if args.metrics is not None:
        registry = registry_of_process()
        registry.register(BridgeCollector(home_agent, members))
        server = MetricsServer(
            args.metrics, registry, partial(_lacking, members), standing_by=lambda: home_agent.standing_by
        )
        LOG.info("metrics-listening", metrics="{}:{}".format(*server.address))
    daemon.stop_on_signals()
    if kernel is not None:
        daemon.follow(kernel.run)
    if args.cache is not None:
        endpoints, name = args.cache
        pod = args.pod or socket.gethostname()
        daemon.follow(OwnerWatch(endpoints, etcd_access, Keys(name, args.home_agent), pod, daemon.owned).run)
    LOG.info(
        "started",
        home_agent=args.home_agent,
        home_prefixes=",".join(args.home_prefix),
        protocol=args.protocol,
        controllers=",".join(args.controller),
        console="none" if args.no_console else "{}:{}".format(*args.console),
        netlink="no" if args.no_netlink else "yes",
        poll=settings.poll,
    )
    return daemon


def _of_another_family(args: argparse.Namespace) -> str | None:
    """Return what is wrong with an address that is not of the protocol's family; None if nothing."""
    ipv4 = args.protocol == MIPV4
    # A home agent of Mobile IPv6 may have IPv4 home addresses, too (RFC 5555).
    prefixes = [] if args.protocol == MIPV6 else args.home_prefix
    for option, values in (("--home-agent", [args.home_agent]), ("--home-prefix", prefixes)):
        for value in values:
            if (":" in value) == ipv4:
                return f"{option} {value}: expected IPv{4 if ipv4 else 6} with --protocol {args.protocol}"
    return None


def _source(args: argparse.Namespace, kernel: KernelWatch | None, prefix_length: int) -> Source:
    settled = SettledKernel(kernel) if args.protocol != MIPV6 and kernel is not None else None
    if args.no_console:
        assert kernel is not None
        if args.protocol == MIPV4:
            return KernelSource(settled or kernel, registration_sockets, messages="Registration Requests")
        return KernelSource(settled or kernel)
    host, port = args.console
    if args.protocol == MIPV6:
        return TerminalSource(TerminalClient(host, port), args.home_agent, kernel, args.restore)
    if args.protocol == MIPV4:
        selection4 = Ipv4Registrations(args.home_agent)
        return TerminalSource(TerminalClient(host, port), args.home_agent, kernel, selection=selection4)
    dialect = DIALECTS[args.console_command]
    terminal = TerminalClient(host, port, command=dialect.command, parse=dialect.parse)
    selection = ProxyRegistrations(args.home_agent, prefix_length, settled)
    return TerminalSource(terminal, args.home_agent, kernel, selection=selection)


def _lacking(members: Members) -> str | None:
    confirmed = any(member.lease_confirmed for member in members)
    return None if confirmed else "no controller has confirmed the lease"


if __name__ == "__main__":
    sys.exit(main())
