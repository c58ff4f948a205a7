# SPDX-License-Identifier: Apache-2.0
"""Define and check the command line of `hoaflow-ha`."""

import argparse
import socket
from dataclasses import dataclass
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    NetmaskValueError,
)
from pathlib import Path

from hoaflow import logs, metrics
from hoaflow.arguments import argument, whole_number, whole_seconds
from hoaflow.etcd import options as etcd
from hoaflow.etcd.errors import EtcdAccessError
from hoaflow.home_agent.advertising import HIGHEST_PREFERENCE, LONGEST_INTERVAL, Advertising
from hoaflow.home_agent.cache import Policy
from hoaflow.home_agent.ipv4_home_addresses import NO_IPV4_HOME_ADDRESSES, load_ipv4_home_addresses
from hoaflow.home_agent.pods.keys import Shared
from hoaflow.home_agent.prefix_table import NO_MOBILE_NETWORKS, load_prefix_table
from hoaflow.mobile_ipv4 import agent as mobile_ipv4
from hoaflow.mobile_ipv4 import cache as mobile_ipv4_cache
from hoaflow.mobile_ipv4.authentication import load_keys as load_mobile_ipv4_keys
from hoaflow.mobile_ipv4.messages import FOREVER
from hoaflow.mobility.authentication import KeyFileError, load_keys
from hoaflow.mobility.home_agent_discovery import home_agents_anycast
from hoaflow.mobility.messages import LIFETIME_UNIT, MAX_LIFETIME
from hoaflow.mobility.settings import SettingsError, add_console, console

DEFAULT_MAX_LIFETIME = 3600
BY_LOAD = "load"
MIPV6, MIPV4 = "mipv6", "mipv4"
DEFAULT_MAX_BINDINGS = 100_000
SHORTEST_LEASE = 2
"""Seconds. etcd lengthens shorter leases: to one and a half of its election timeouts, rounded up."""

EPILOG = """\
The home agent's address is added to the interface if it is not there. The
virtual terminal has UMIP's commands: bc, verbose, fancy and prompt yes|no, quit;
with --advertise also hal, which lists the home agents of the home link.

examples:
  hoaflow-ha --home-agent 2001:db8:99::1 --home-prefix 2001:db8:99::/64 \\
      --home-link eth1 --keys /etc/hoaflow/keys.toml \\
      --journal /var/lib/hoaflow-ha/bindings
  hoaflow-ha --protocol mipv4 --home-agent 10.99.0.1 --home-prefix 10.99.0.0/24 \\
      --home-link eth1 --keys /etc/hoaflow/keys.toml
  nc 127.0.0.1 7777          open the virtual terminal; `bc` shows the bindings

The file of --keys, mode 600:
  ["2001:db8:99::100"]
  spi = 256
  key = "00112233445566778899aabbccddeeff"
With mipv4, a table may also have algorithm = "hmac-sha256" in place of "hmac-md5".

The file of --mobile-networks:
  "2001:db8:99::100" = ["2001:db8:aa:1::/64", "2001:db8:aa:2::/64"]

The file of --ipv4-home-addresses:
  "2001:db8:99::100" = "10.99.0.100"

exit status: 0 after SIGTERM or SIGINT, 1 if it can't start, 2 if an option is
wrong or a file is unusable
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The command line's settings, checked by `check`.

    `ipv4`: the home agent's IPv4 address on the home link, with the length of the prefix, if it serves IPv4.
    """

    policy: Policy
    home_link: str
    console: tuple[str, int] | None
    journal: Path | None
    shared: Shared | None
    metrics: tuple[str, int] | None
    advertising: Advertising | None
    ipv4: IPv4Interface | None = None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="hoaflow-ha",
        description="Run a home agent (RFC 6275, RFC 5555; of IPv4: RFC 5944) for one home link. It needs root, runs "
        "in the current network namespace, and forwards packets between the home link and all other links.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument(
        "--protocol",
        choices=(MIPV6, MIPV4),
        default=MIPV6,
        help=f"{MIPV4}: Mobile IPv4, and all addresses are IPv4; it needs --keys (default: %(default)s)",
    )
    options.add_argument("--home-agent", required=True, metavar="ADDRESS", help="the home agent's address")
    options.add_argument("--home-prefix", required=True, metavar="PREFIX", help="the prefix of the home link")
    options.add_argument("--home-link", required=True, metavar="IFACE", help="the interface on the home link")
    how = options.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="keys of the mobile nodes (RFC 4285, RFC 5944), in TOML as below; mobile nodes without a key are ignored",
    )
    how.add_argument(
        "--insecure",
        action="store_true",
        help="accept every Binding Update, so that anybody can divert any home address (laboratories only)",
    )
    options.add_argument(
        "--mobile-networks",
        type=Path,
        metavar="FILE",
        help="prefixes that mobile routers may have (RFC 3963), by their home addresses, in TOML as below; without it, "
        "mobile routers are refused with status 140",
    )
    options.add_argument(
        "--ipv4-home-agent",
        metavar="ADDRESS/LENGTH",
        help="serve IPv4 home addresses, too (RFC 5555): the home agent's IPv4 address on the home link, and the "
        "length of the prefix there, as 10.99.0.1/24; it needs --ipv4-home-addresses",
    )
    options.add_argument(
        "--ipv4-home-addresses",
        type=Path,
        metavar="FILE",
        help="the IPv4 home addresses that mobile nodes may have, by their home addresses, in TOML as below",
    )
    add_console(options, "virtual terminal")
    options.add_argument(
        "--max-lifetime",
        type=int,
        default=DEFAULT_MAX_LIFETIME,
        metavar="SECONDS",
        help="longest lifetime to grant, rounded down to a multiple of 4 s; with mipv4 65535 is for ever "
        "(default: %(default)s)",
    )
    options.add_argument(
        "--max-bindings",
        type=int,
        default=DEFAULT_MAX_BINDINGS,
        metavar="N",
        help="most bindings to hold; further ones are refused with status 130 (default: %(default)s)",
    )
    kept = options.add_mutually_exclusive_group()
    kept.add_argument(
        "--journal",
        type=Path,
        metavar="FILE",
        help="keep bindings and sequence numbers in this file; without it, Binding Updates recorded before a "
        "restart can be replayed after it",
    )
    kept.add_argument(
        "--cache",
        type=argument(etcd.endpoints_and_name),
        metavar="etcd://HOST:PORT[,...]/NAME",
        help="keep them in etcd (etcds://: over TLS), where other pods with the same address and NAME find them: one "
        "serves, the others stand by and take over",
    )
    options.add_argument(
        "--cache-lease",
        type=whole_seconds(SHORTEST_LEASE, most=60),
        default=SHORTEST_LEASE,
        metavar="SECONDS",
        help="with --cache, give the address to another pod when this one has not been heard of for so long "
        "(default: %(default)s)",
    )
    options.add_argument(
        "--pod",
        metavar="NAME",
        default=socket.gethostname(),
        help="with --cache, this pod's name (default: the host's)",
    )
    etcd.add_options(options)
    _add_advertising(options)
    metrics.add_option(options)
    logs.add_options(options)
    return options


def _add_advertising(options: argparse.ArgumentParser) -> None:
    """Add the options for several home agents on one home link."""
    options.add_argument(
        "--advertise",
        type=whole_seconds(1, most=LONGEST_INTERVAL),
        metavar="SECONDS",
        help="advertise this home agent on the home link at least so often, keep a list of the others there, which "
        "forget it after three times as long, and answer mobile nodes that look for a home agent (RFC 6275, section "
        "10.5) or for their home prefix (10.6); no other program on this host may send Router Advertisements there",
    )
    options.add_argument(
        "--preference",
        type=_preference,
        metavar="N|load",
        help="with --advertise, mobile nodes are told of home agents with a higher preference first (default: 0); with "
        f"`load` it falls from {HIGHEST_PREFERENCE} without bindings to 0 with --max-bindings",
    )
    options.add_argument(
        "--default-router",
        action="store_true",
        help="with --advertise, be the default router of hosts on the home link, and let them form addresses in the "
        "home prefix",
    )


def check_mipv4(arguments: argparse.Namespace) -> mobile_ipv4.Settings:
    """Check the options of Mobile IPv4 and turn them into settings. Raises SettingsError, KeyFileError."""
    _check_common(arguments)
    unfit = ("insecure", "mobile_networks", "journal", "cache", "advertise", "ipv4_home_agent", "ipv4_home_addresses")
    for option in (*unfit, *etcd.NAMES):
        if getattr(arguments, option):
            raise SettingsError(f"--{option.replace('_', '-')}: not with --protocol {MIPV4}")
    try:
        prefix = IPv4Network(arguments.home_prefix)
    except ValueError as error:
        raise SettingsError(f"--home-prefix: expected an IPv4 prefix such as 10.99.0.0/24: {error}") from error
    _check_ipv4_link("--home-prefix", prefix)
    try:
        address = IPv4Address(arguments.home_agent)
    except ValueError as error:
        raise SettingsError(f"--home-agent: expected an IPv4 address: {error}") from error
    ends = (prefix.network_address, prefix.broadcast_address)
    if address not in prefix or address in ends:
        raise SettingsError(f"--home-agent: {address} is no host address in the home prefix {prefix}")
    if not 1 <= arguments.max_lifetime <= FOREVER:
        raise SettingsError(f"--max-lifetime: expected 1 to {FOREVER} seconds, got {arguments.max_lifetime}")
    keys = load_mobile_ipv4_keys(arguments.keys)
    for home in map(IPv4Address, keys):
        if home not in prefix or home in (*ends, address):
            raise KeyFileError(f'{arguments.keys}: ["{home}"]: no home address in the home prefix {prefix}')
    return mobile_ipv4.Settings(
        mobile_ipv4_cache.Policy(str(address), prefix, arguments.max_lifetime, arguments.max_bindings, keys),
        arguments.home_link,
        console(arguments),
        arguments.metrics,
    )


def check(arguments: argparse.Namespace) -> Settings:
    """Check the options of Mobile IPv6 and turn them into settings.

    Raises SettingsError, KeyFileError, PrefixTableError.
    """
    _check_common(arguments)
    prefix = _prefix(arguments.home_prefix)
    home_agent = _home_agent(arguments.home_agent, prefix)
    if not LIFETIME_UNIT <= arguments.max_lifetime <= MAX_LIFETIME:
        raise SettingsError(
            f"--max-lifetime: expected {LIFETIME_UNIT} to {MAX_LIFETIME} seconds, got {arguments.max_lifetime}"
        )
    keys = None if arguments.keys is None else load_keys(arguments.keys)
    for address in keys or ():
        if IPv6Address(address) not in prefix:
            raise KeyFileError(f'{arguments.keys}: ["{address}"]: not in the home prefix {prefix}')
    networks = NO_MOBILE_NETWORKS
    if arguments.mobile_networks is not None:
        networks = load_prefix_table(arguments.mobile_networks, prefix)
    own, ipv4 = _ipv4(arguments), NO_IPV4_HOME_ADDRESSES
    if own is not None:
        ipv4 = load_ipv4_home_addresses(arguments.ipv4_home_addresses, prefix, own)
    return Settings(
        policy=Policy(home_agent, prefix, arguments.max_lifetime, arguments.max_bindings, keys, networks, ipv4),
        home_link=arguments.home_link,
        console=console(arguments),
        journal=arguments.journal,
        shared=_shared(arguments),
        metrics=arguments.metrics,
        advertising=_advertising(arguments, prefix),
        ipv4=own,
    )


def _ipv4(arguments: argparse.Namespace) -> IPv4Interface | None:
    """Return the home agent's IPv4 address, None if it serves IPv6 only."""
    text = arguments.ipv4_home_agent
    if (text is None) is not (arguments.ipv4_home_addresses is None):
        raise SettingsError("--ipv4-home-agent, --ipv4-home-addresses: expected both or neither")
    if text is None:
        return None
    if arguments.cache is not None:
        raise SettingsError("--cache: not with --ipv4-home-agent, as an IPv4 address does not move between pods")
    try:
        own = IPv4Interface(text)
    except ValueError as error:
        raise SettingsError(f"--ipv4-home-agent: expected ADDRESS/LENGTH such as 10.99.0.1/24: {error}") from error
    _check_ipv4_link("--ipv4-home-agent", own.network)
    if own.ip in (own.network.network_address, own.network.broadcast_address):
        raise SettingsError(f"--ipv4-home-agent: {own.ip} is no host address in the prefix {own.network}")
    return own


def _advertising(arguments: argparse.Namespace, prefix: IPv6Network) -> Advertising | None:
    if arguments.advertise is None:
        return None
    anycast = home_agents_anycast(prefix)
    if anycast is None:
        raise SettingsError(f"--advertise: {prefix} is too long to have an anycast address of home agents (RFC 2526)")
    preference = None if arguments.preference == BY_LOAD else arguments.preference or 0
    return Advertising(anycast, arguments.advertise, preference, arguments.default_router)


def _preference(text: str) -> int | str:
    return text if text == BY_LOAD else whole_number(0, most=HIGHEST_PREFERENCE)(text)


def _shared(arguments: argparse.Namespace) -> Shared | None:
    try:
        access = etcd.from_arguments(arguments)
    except EtcdAccessError as error:
        raise SettingsError(str(error)) from None
    if arguments.cache is None:
        return None
    endpoints, name = arguments.cache
    return Shared(endpoints, name, arguments.pod, arguments.cache_lease, access)


def _check_common(arguments: argparse.Namespace) -> None:
    if arguments.advertise is None and (arguments.preference is not None or arguments.default_router):
        raise SettingsError("--preference, --default-router: only with --advertise")
    if arguments.max_bindings < 1:
        raise SettingsError(f"--max-bindings: expected 1 or more, got {arguments.max_bindings}")
    if arguments.home_link not in (names := [name for _, name in socket.if_nameindex()]):
        raise SettingsError(
            f"--home-link: no interface {arguments.home_link!r} here; there are: {', '.join(sorted(names))}"
        )


def _check_ipv4_link(option: str, prefix: IPv4Network) -> None:
    if not 3 <= prefix.prefixlen <= 30 or prefix.is_multicast or prefix.is_link_local or prefix.is_loopback:
        raise SettingsError(f"{option}: expected the prefix of a link, unicast, got {prefix}")


def _prefix(text: str) -> IPv6Network:
    try:
        prefix = IPv6Network(text)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise SettingsError(f"--home-prefix: expected an IPv6 prefix such as 2001:db8:99::/64: {error}") from error
    if not 3 <= prefix.prefixlen <= 126 or prefix.is_multicast or prefix.is_link_local:
        raise SettingsError(f"--home-prefix: expected the prefix of a link, unicast, got {prefix}")
    return prefix


def _home_agent(text: str, prefix: IPv6Network) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError as error:
        raise SettingsError(f"--home-agent: expected an IPv6 address: {error}") from error
    if address not in prefix or address == prefix.network_address:
        raise SettingsError(f"--home-agent: {address} is no host address in the home prefix {prefix}")
    return str(address)
