# SPDX-License-Identifier: Apache-2.0
"""Define and check the command line of `hoaflow-lma`."""

import argparse
from dataclasses import dataclass
from ipaddress import IPv6Network

from hoaflow.arguments import ipv6_address, ipv6_prefix, whole_seconds
from hoaflow.local_mobility_anchor.cache import Policy
from hoaflow.mobility.messages import LIFETIME_UNIT, MAX_LIFETIME
from hoaflow.pmipv6.mobile_nodes import ProfileError
from hoaflow.pmipv6.settings import (
    DEFAULT_LINK_LOCAL,
    FILES,
    Common,
    add_common,
    check_common,
    link_local_address,
)

DEFAULT_MAX_LIFETIME = 3600

EPILOG = f"""\
The anchor's address is added to the loopback interface if no interface has it.
The console has the command `pmip` of OAI PMIPv6.

examples:
  hoaflow-lma --local-mobility-anchor 2001:db8:98::1 \\
      --home-prefix 2001:db8:f1::/48 --keys /etc/hoaflow/lma-keys.toml \\
      --mobile-nodes /etc/hoaflow/mobile-nodes.toml
  nc 127.0.0.1 7777          open the console; `pmip` shows the bindings

{FILES.format(peer="access gateway", address="2001:db8:2::2")}"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The command line's settings, checked."""

    policy: Policy
    home_prefixes: tuple[str, ...]
    common: Common


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="hoaflow-lma",
        description="Run a local mobility anchor (RFC 5213). It needs root, runs in the current network namespace, "
        "and forwards packets between all links.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument(
        "--local-mobility-anchor", required=True, type=ipv6_address, metavar="ADDRESS", help="the anchor's address"
    )
    options.add_argument(
        "--home-prefix",
        required=True,
        action="append",
        type=ipv6_prefix,
        metavar="PREFIX",
        help="a prefix that is routed here, in which home network prefixes lie; repeatable",
    )
    options.add_argument(
        "--max-lifetime",
        type=whole_seconds(LIFETIME_UNIT, MAX_LIFETIME),
        default=DEFAULT_MAX_LIFETIME,
        metavar="SECONDS",
        help="longest lifetime to grant, rounded down to a multiple of 4 s (default: %(default)s)",
    )
    options.add_argument(
        "--link-local",
        type=link_local_address,
        default=DEFAULT_LINK_LOCAL,
        metavar="ADDRESS",
        help="link-local address for access gateways that ask for one (default: %(default)s)",
    )
    add_common(options, "access gateway")
    return options


def check(arguments: argparse.Namespace) -> Settings:
    """Check options and turn them into settings. Raises ProfileError, KeyFileError."""
    common = check_common(arguments)
    covering = [IPv6Network(prefix) for prefix in arguments.home_prefix]
    for node in common.mobile_nodes.values():
        for prefix in node.prefixes:
            if not any(IPv6Network(prefix).subnet_of(each) for each in covering):
                where = f'{arguments.mobile_nodes}: ["{node.identifier}"]'
                raise ProfileError(f"{where}: {prefix} lies in no --home-prefix ({', '.join(map(str, covering))})")
    policy = Policy(
        arguments.local_mobility_anchor,
        common.mobile_nodes,
        arguments.max_lifetime,
        common.window,
        arguments.link_local,
    )
    return Settings(policy, tuple(arguments.home_prefix), common)
