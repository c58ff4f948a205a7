# SPDX-License-Identifier: Apache-2.0
"""Define and check the command line of `hoaflow-mag`."""

import argparse
from dataclasses import dataclass

from hoaflow.arguments import ipv6_address, seconds, whole_seconds
from hoaflow.mobility.messages import LIFETIME_UNIT, MAX_LIFETIME
from hoaflow.mobility.settings import SettingsError, add_access_links
from hoaflow.pmipv6.settings import (
    DEFAULT_LINK_LOCAL,
    FILES,
    Common,
    add_common,
    check_common,
    link_local_address,
)

DEFAULT_LIFETIME = 600
DEFAULT_HOLD, LONGEST_HOLD = 2.0, 30.0
DEFAULT_HELD_PACKETS, MOST_HELD_PACKETS = 1000, 100_000
ETHERNET = 3
"""Access technology type 802.3 (RFC 5213, section 8.5)."""

EPILOG = f"""\
The gateway's address, the Proxy-CoA, is added to the loopback interface if no
interface has it. Mobile nodes are told by their MAC addresses. The console has
the command `pmip` of OAI PMIPv6.

examples:
  hoaflow-mag --mobile-access-gateway 2001:db8:2::2 \\
      --local-mobility-anchor 2001:db8:98::1 --access-link eth1 \\
      --keys /etc/hoaflow/mag-keys.toml \\
      --mobile-nodes /etc/hoaflow/mobile-nodes.toml

{FILES.format(peer="anchor", address="2001:db8:98::1")}"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The command line's settings, checked. `hold` is in seconds; `held_packets` for each home network prefix."""

    address: str
    anchor: str
    access_links: tuple[str, ...]
    link_local: str
    lifetime: int
    hold: float
    held_packets: int
    access_technology: int
    common: Common


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="hoaflow-mag",
        description="Run a mobile access gateway (RFC 5213). It needs root, runs in the current network namespace, and "
        "is the router of the mobile nodes on its access links.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument(
        "--mobile-access-gateway",
        required=True,
        type=ipv6_address,
        metavar="ADDRESS",
        help="the gateway's address, the mobile nodes' Proxy-CoA",
    )
    options.add_argument(
        "--local-mobility-anchor", required=True, type=ipv6_address, metavar="ADDRESS", help="the anchor's address"
    )
    add_access_links(options)
    options.add_argument(
        "--link-local",
        type=link_local_address,
        default=DEFAULT_LINK_LOCAL,
        metavar="ADDRESS",
        help="the address on access links, the same on all gateways (default: %(default)s)",
    )
    options.add_argument(
        "--lifetime",
        type=whole_seconds(LIFETIME_UNIT, MAX_LIFETIME),
        default=DEFAULT_LIFETIME,
        metavar="SECONDS",
        help="lifetime to ask for, rounded down to a multiple of 4 s (default: %(default)s)",
    )
    options.add_argument(
        "--hold",
        type=seconds,
        default=DEFAULT_HOLD,
        metavar="SECONDS",
        help="how long to hold the packets of a mobile node that has left, until it comes back or the anchor tells "
        f"that it is elsewhere; then it is deregistered (at most {LONGEST_HOLD:g}; default: %(default)g)",
    )
    options.add_argument(
        "--held-packets",
        type=int,
        default=DEFAULT_HELD_PACKETS,
        metavar="N",
        help="most packets to hold for each home network prefix (default: %(default)s)",
    )
    add_common(options, "anchor")
    return options


def check(arguments: argparse.Namespace) -> Settings:
    """Check options and turn them into settings. Raises SettingsError, ProfileError, KeyFileError."""
    if arguments.hold > LONGEST_HOLD:
        raise SettingsError(f"--hold: expected at most {LONGEST_HOLD:g} s, got {arguments.hold:g}")
    if not 0 <= arguments.held_packets <= MOST_HELD_PACKETS:
        raise SettingsError(f"--held-packets: expected 0 to {MOST_HELD_PACKETS}, got {arguments.held_packets}")
    anchor, common = arguments.local_mobility_anchor, check_common(arguments)
    if common.keys is not None and anchor not in common.keys:
        found = ", ".join(common.keys) or "none"
        raise SettingsError(f"{arguments.keys}: expected a key for the anchor, {anchor}, got {found}")
    return Settings(
        address=arguments.mobile_access_gateway,
        anchor=anchor,
        access_links=tuple(dict.fromkeys(arguments.access_link)),
        link_local=arguments.link_local,
        lifetime=arguments.lifetime // LIFETIME_UNIT * LIFETIME_UNIT,
        hold=arguments.hold,
        held_packets=arguments.held_packets,
        access_technology=ETHERNET,
        common=common,
    )
