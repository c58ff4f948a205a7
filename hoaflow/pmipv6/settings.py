# SPDX-License-Identifier: Apache-2.0
"""Define and check the options that anchor and access gateway have in common."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from hoaflow import logs, metrics
from hoaflow.addresses import canonical_ipv6_address
from hoaflow.arguments import argument, seconds
from hoaflow.mobility.authentication import SecurityAssociation, load_keys
from hoaflow.mobility.settings import add_console, console
from hoaflow.pmipv6.mobile_nodes import MobileNode, load_mobile_nodes

DEFAULT_WINDOW = 0.3
LONGEST_WINDOW = 3.0
"""Seconds. Less than any lifetime, so that a recorded update is too old once its binding has expired."""
DEFAULT_HEARTBEAT = 60.0
DEFAULT_LINK_LOCAL = "fe80::1"

FILES = """\
The file of --mobile-nodes, the same for the anchor and all access gateways:
  ["mn1@example.org"]
  prefixes = ["2001:db8:f1:1::/64"]
  link_layer_address = "02:00:00:00:0a:01"

The file of --keys, mode 600, has a table for each {peer}:
  ["{address}"]
  spi = 256
  key = "00112233445566778899aabbccddeeff"

exit status: 0 after SIGTERM or SIGINT, 1 if it can't start, 2 if an option is
wrong or a file is unusable
"""


@dataclass(frozen=True, slots=True)
class Common:
    """Options of both ends, checked. `window` and `heartbeat` are in seconds; `keys` is None with --insecure."""

    mobile_nodes: Mapping[str, MobileNode]
    keys: Mapping[str, SecurityAssociation] | None
    window: float
    heartbeat: float
    console: tuple[str, int] | None
    metrics: tuple[str, int] | None


@argument
def _window(text: str) -> float:
    window = seconds(text)
    if window > LONGEST_WINDOW:
        raise ValueError(f"expected at most {LONGEST_WINDOW:g} s, got {text!r}")
    return window


@argument
def link_local_address(text: str) -> str:
    """Return a link-local address: mobile nodes ignore a Router Advertisement from any other (RFC 4861, 6.1.2)."""
    address = canonical_ipv6_address(text)
    if not IPv6Address(address).is_link_local:
        raise ValueError(f"expected a link-local address (fe80::/10), got {text!r}")
    return address


def add_common(options: argparse.ArgumentParser, peer: str) -> None:
    """Add the options of both ends; `peer` is the other one in words."""
    options.add_argument(
        "--mobile-nodes", type=Path, required=True, metavar="FILE", help="the mobile nodes, in TOML as below"
    )
    how = options.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help=f"a key for each {peer} (as in RFC 4285), in TOML as below; messages of others are ignored",
    )
    how.add_argument(
        "--insecure",
        action="store_true",
        help="take every message, so that anybody can divert any home network prefix (laboratories only)",
    )
    options.add_argument(
        "--timestamp-window",
        type=_window,
        default=DEFAULT_WINDOW,
        metavar="SECONDS",
        help=f"how much the clocks may differ, at most {LONGEST_WINDOW:g} s (default: %(default)s)",
    )
    options.add_argument(
        "--heartbeat",
        type=seconds,
        default=DEFAULT_HEARTBEAT,
        metavar="SECONDS",
        help="time between two heartbeats (RFC 5847) (default: %(default)g)",
    )
    add_console(options, "console")
    metrics.add_option(options)
    logs.add_options(options)


def check_common(arguments: argparse.Namespace) -> Common:
    """Read the files. Raises ProfileError, KeyFileError."""
    return Common(
        mobile_nodes=load_mobile_nodes(arguments.mobile_nodes),
        keys=None if arguments.keys is None else load_keys(arguments.keys),
        window=arguments.timestamp_window,
        heartbeat=arguments.heartbeat,
        console=console(arguments),
        metrics=arguments.metrics,
    )
