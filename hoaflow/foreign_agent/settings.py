# SPDX-License-Identifier: Apache-2.0
"""Define and check the command line of `hoaflow-fa`."""

import argparse
from dataclasses import dataclass

from hoaflow import logs, metrics
from hoaflow.addresses import host, parse_address, why_not_global_unicast
from hoaflow.arguments import address, seconds, whole_number, whole_seconds
from hoaflow.foreign_agent.checks import Policy, ReverseTunnels
from hoaflow.mobile_ipv4.messages import FOREVER
from hoaflow.mobility.settings import SettingsError, add_access_links, add_console, console

DEFAULT_MAX_LIFETIME = 1800
DEFAULT_MAX_VISITORS, MOST_VISITORS = 1000, 100_000
DEFAULT_INTERVAL, LONGEST_INTERVAL = 10.0, 1800.0
IPV4_OCTETS = 4

EPILOG = """\
The care-of address is one of this host's, and each access link has an IPv4
address. Mobile nodes need no address of the link. The console has the command
`visitors`.

example:
  hoaflow-fa --care-of-address 10.2.0.10 --access-link eth1
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The command line's settings, checked. `advertise_interval` is in seconds."""

    policy: Policy
    access_links: tuple[str, ...]
    advertise_interval: float
    registration_required: bool
    console: tuple[str, int] | None
    metrics: tuple[str, int] | None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="hoaflow-fa",
        description="Run a foreign agent of Mobile IPv4 (RFC 5944). It needs root, runs in the current network "
        "namespace, and is the router of the mobile nodes on its access links.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument(
        "--care-of-address",
        required=True,
        type=address,
        metavar="ADDRESS",
        help="an IPv4 address of this host, the care-of address of all visitors",
    )
    add_access_links(options)
    options.add_argument(
        "--max-lifetime",
        type=whole_seconds(1, FOREVER),
        default=DEFAULT_MAX_LIFETIME,
        metavar="SECONDS",
        help="longest lifetime to relay, advertised; 65535 is for ever (default: %(default)s)",
    )
    options.add_argument(
        "--max-visitors",
        type=whole_number(1, MOST_VISITORS),
        default=DEFAULT_MAX_VISITORS,
        metavar="N",
        help="most mobile nodes to serve at a time; further ones are refused (default: %(default)s)",
    )
    options.add_argument(
        "--reverse-tunnels",
        type=ReverseTunnels,
        choices=list(ReverseTunnels),
        default=ReverseTunnels.OFFERED,
        help="whether mobile nodes may have, must have or cannot have a reverse tunnel (RFC 3024, direct delivery "
        "style) (default: %(default)s)",
    )
    options.add_argument(
        "--registration-required",
        action="store_true",
        help="advertise that mobile nodes with a care-of address of their own are to register here, too (flag R)",
    )
    options.add_argument(
        "--advertise-interval",
        type=seconds,
        default=DEFAULT_INTERVAL,
        metavar="SECONDS",
        help=f"time between two Agent Advertisements, at most {LONGEST_INTERVAL:g} s (default: %(default)g)",
    )
    add_console(options, "console")
    metrics.add_option(options)
    logs.add_options(options)
    return options


def check(arguments: argparse.Namespace) -> Settings:
    """Check options and turn them into settings. Raises SettingsError."""
    care_of_address = parse_address(arguments.care_of_address)
    unfit = why_not_global_unicast(host(care_of_address))
    if len(care_of_address) != IPV4_OCTETS or unfit is not None:
        reason = unfit or "an IPv6 address"
        raise SettingsError(
            f"--care-of-address: expected a unicast IPv4 address, got {arguments.care_of_address} ({reason})"
        )
    if arguments.advertise_interval > LONGEST_INTERVAL:
        raise SettingsError(
            f"--advertise-interval: expected at most {LONGEST_INTERVAL:g} s, got {arguments.advertise_interval:g}"
        )
    return Settings(
        policy=Policy(
            arguments.care_of_address, arguments.max_lifetime, arguments.max_visitors, arguments.reverse_tunnels
        ),
        access_links=tuple(dict.fromkeys(arguments.access_link)),
        advertise_interval=arguments.advertise_interval,
        registration_required=arguments.registration_required,
        console=console(arguments),
        metrics=arguments.metrics,
    )
