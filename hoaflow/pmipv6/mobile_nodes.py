# SPDX-License-Identifier: Apache-2.0
"""Read the file of mobile nodes: their policy profiles (RFC 5213, section 6.2), the same for anchor and gateways."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

from hoaflow.errors import HoaflowError

LONGEST_PREFIX = 64
"""Mobile nodes form addresses from an interface identifier of 64 bits (RFC 4862)."""
MOST_PREFIXES, LONGEST_IDENTIFIER = 32, 253
"""So many prefixes fit into messages and Router Advertisements of 1280 octets, the least MTU of IPv6, with the longest
NAI in use (octets; RFC 7542, section 2.3)."""
MAC_OCTETS = 6
GROUP_BIT = 1


class ProfileError(HoaflowError, ValueError):
    """The file of mobile nodes is unusable. The text says what is wrong and what was expected."""


@dataclass(frozen=True, slots=True)
class MobileNode:
    """A mobile node: its identifier (a NAI), home network prefixes and link-layer (MAC) address."""

    identifier: str
    prefixes: tuple[str, ...]
    link_layer: bytes

    def address(self, prefix: str) -> str:
        """Return the address that it forms from a prefix and its link-layer address (RFC 4291, appendix A)."""
        mac = self.link_layer
        interface = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
        return str(IPv6Network(prefix).network_address + int.from_bytes(interface, "big"))


def load_mobile_nodes(path: Path) -> Mapping[str, MobileNode]:
    """Read the file: TOML, one table per mobile node; returns profiles by identifier. Raises ProfileError."""
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # tomllib's own, bad UTF-8, integers too long, nesting too deep
        raise ProfileError(f"{path}: not TOML: {error}") from error
    nodes = {name: _node(f'{path}: ["{name}"]', name, table) for name, table in tables.items()}
    owners: dict[object, str] = {}
    for node in nodes.values():
        for fact in (*map(IPv6Network, node.prefixes), node.link_layer):
            if (other := owners.setdefault(fact, node.identifier)) != node.identifier:
                shown = fact.hex(":") if isinstance(fact, bytes) else fact
                raise ProfileError(f'{path}: ["{node.identifier}"] and ["{other}"] both have {shown}')
    return nodes


def _node(where: str, identifier: str, table: Any) -> MobileNode:
    if not isinstance(table, dict) or table.keys() != {"prefixes", "link_layer_address"}:
        raise ProfileError(f"{where}: expected a table with exactly prefixes and link_layer_address")
    if not 0 < (octets := len(identifier.encode())) <= LONGEST_IDENTIFIER:
        raise ProfileError(f"{where}: expected an identifier of 1 to {LONGEST_IDENTIFIER} octets, got {octets}")
    prefixes, link_layer = table["prefixes"], table["link_layer_address"]
    if not isinstance(prefixes, list) or not 0 < len(prefixes) <= MOST_PREFIXES:
        raise ProfileError(f"{where}: prefixes: expected a list of 1 to {MOST_PREFIXES} prefixes")
    return MobileNode(identifier, tuple(_prefix(where, text) for text in prefixes), _mac(where, link_layer))


def _prefix(where: str, text: object) -> str:
    try:
        prefix = IPv6Network(str(text))
    except ValueError as error:
        raise ProfileError(f"{where}: prefixes: {error}") from error
    if prefix.prefixlen != LONGEST_PREFIX or prefix.is_multicast or prefix.is_link_local:
        raise ProfileError(f"{where}: prefixes: expected a unicast /{LONGEST_PREFIX}, got {prefix}")
    return str(prefix)


def _mac(where: str, text: object) -> bytes:
    try:
        mac = bytes.fromhex(str(text).replace(":", ""))
    except ValueError:
        mac = b""
    if len(mac) != MAC_OCTETS or mac[0] & GROUP_BIT:
        raise ProfileError(f"{where}: link_layer_address: expected a MAC address of one station, got {text!r}")
    return mac
