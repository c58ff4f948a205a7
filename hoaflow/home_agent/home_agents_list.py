# SPDX-License-Identifier: Apache-2.0
"""Keep the Home Agents List of a home link: who else is a home agent there (RFC 6275, sections 10.1 and 10.5.1).

Pure: time and randomness are arguments. Anybody on the home link can advertise, so the list is bounded; what it lacks
then is found by the home agents that have room.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from random import Random

from hoaflow.home_agent.cache import routable_unicast
from hoaflow.mobility.entries import Entries
from hoaflow.mobility.router_advertisements import HomeAgentInformation, RouterAdvertisement

MOST_HOME_AGENTS = 64
MOST_ADDRESSES = 8
"""Global addresses of one home agent."""


@dataclass(frozen=True, slots=True)
class HomeAgentEntry:
    """A home agent by its link-local address. It leaves the list at `due` (monotonic seconds).

    `mobile_routers`: it takes mobile routers (RFC 3963, section 7.3).
    """

    link_local: str
    preference: int
    due: float
    addresses: tuple[str, ...]
    mobile_routers: bool = False


class HomeAgentsList:
    """The other home agents of the link, by link-local address."""

    def __init__(self) -> None:
        self._entries: Entries[HomeAgentEntry] = Entries()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[HomeAgentEntry]:
        return iter(self._entries)

    def heard(self, advertisement: RouterAdvertisement, now: float) -> bool:
        """Take a valid Router Advertisement of another router; return False for a home agent that finds no room.

        A router that is no home agent (any more), or whose lifetime is 0, leaves the list at once.
        """
        key, information = advertisement.source, advertisement.information
        if information is None:
            information = HomeAgentInformation(preference=0, lifetime=advertisement.router_lifetime)
        known = self._entries.get(key)
        if not advertisement.home_agent or information.lifetime == 0:
            if known is not None:
                self._entries.remove(key)
            return True
        if known is None and len(self._entries) >= MOST_HOME_AGENTS:
            return False
        # An advertisement need not have all options (RFC 4861, section 6.2.3), so what it lacks stays.
        addresses = dict.fromkeys((*(() if known is None else known.addresses), *_global_addresses(advertisement)))
        due, most = now + information.lifetime, tuple(addresses)[:MOST_ADDRESSES]
        self._entries.put(key, HomeAgentEntry(key, information.preference, due, most, information.mobile_routers))
        return True

    def expire(self, now: float) -> None:
        """Forget the home agents whose lifetime is over."""
        for entry in self._entries.due(now):
            self._entries.remove(entry.link_local)

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which `expire` has something to do, None for never."""
        return self._entries.next_due()


def in_order(home_agents: list[HomeAgentEntry], random: Random) -> list[str]:
    """Return the home agents' addresses, the most preferred first, equal ones in random order (section 10.5).

    An address that several have, as pods that take over from each other, counts once.
    """
    shuffled = random.sample(home_agents, len(home_agents))
    shuffled.sort(key=lambda entry: -entry.preference)
    return list(dict.fromkeys(address for entry in shuffled for address in entry.addresses))


def _global_addresses(advertisement: RouterAdvertisement) -> Iterator[str]:
    """Yield the router's own addresses: those of Prefix Information options with flag R."""
    for prefix in advertisement.prefixes:
        if prefix.router_address and routable_unicast(address := IPv6Address(prefix.prefix.ip)):
            yield str(address)
