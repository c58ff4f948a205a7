# SPDX-License-Identifier: Apache-2.0
"""Keep the table of IPv4 home addresses that dual-stack mobile nodes may have (RFC 5555, section 4.4)."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv6Network
from pathlib import Path

from hoaflow.home_agent.prefix_table import PrefixTableError, load_by_home_address
from hoaflow.mobility.messages import ANY_IPV4, BindingUpdate, Ipv4AddressAcknowledgement, Ipv4AddressStatus


class Ipv4HomeAddresses:
    """The IPv4 home addresses by home address. Pure."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """Take addresses in their canonical forms; none twice."""
        self._addresses = addresses

    def of(self, home_address: str) -> str | None:
        """Return the IPv4 home address that a mobile node may have, None if it may have none."""
        return self._addresses.get(home_address)

    def answer(self, update: BindingUpdate) -> Ipv4AddressAcknowledgement | None:
        """Return what is said about the IPv4 home address of an accepted update; None if it asks for none."""
        wanted, own = update.ipv4_home_address, self.of(update.home_address)
        if wanted is None:
            return None
        if own is not None and wanted in (own, ANY_IPV4) and not update.ipv4_prefix:
            return Ipv4AddressAcknowledgement(Ipv4AddressStatus.ACCEPTED, own)
        if update.ipv4_prefix:
            status = Ipv4AddressStatus.PREFIX_NOT_AUTHORISED
        elif own is not None:
            status = Ipv4AddressStatus.INCORRECT_ADDRESS
        elif wanted == ANY_IPV4:
            status = Ipv4AddressStatus.NO_DYNAMIC_ASSIGNMENT
        else:
            status = Ipv4AddressStatus.ADMINISTRATIVELY_PROHIBITED
        return Ipv4AddressAcknowledgement(status, wanted)

    def given(self, update: BindingUpdate) -> str | None:
        """Return the IPv4 home address that an accepted update registers, None for none."""
        answer = self.answer(update)
        return answer.address if answer is not None and answer.status == Ipv4AddressStatus.ACCEPTED else None


NO_IPV4_HOME_ADDRESSES = Ipv4HomeAddresses({})


def load_ipv4_home_addresses(path: Path, home_prefix: IPv6Network, own: IPv4Interface) -> Ipv4HomeAddresses:
    """Read the file: TOML, home addresses with an IPv4 home address each.

    `own`: the home agent's IPv4 address, with the length of the home link's IPv4 prefix. Raises PrefixTableError.
    """
    unfit = (own.ip, own.network.network_address, own.network.broadcast_address)

    def entry(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"expected an IPv4 address, got {value!r}")
        address = IPv4Address(value)
        if address not in own.network or address in unfit:
            raise ValueError(f"expected a home address in {own.network}, got {address}")
        return str(address)

    table = load_by_home_address(path, home_prefix, entry)
    holders: dict[str, str] = {}
    for home_address, address in table.items():
        if (other := holders.setdefault(address, home_address)) != home_address:
            raise PrefixTableError(f"{path}: {other} and {home_address} have the same IPv4 home address {address}")
    return Ipv4HomeAddresses(table)
