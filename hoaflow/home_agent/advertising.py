# SPDX-License-Identifier: Apache-2.0
"""Decide what a home agent advertises on its home link, and when (RFC 6275, section 7; RFC 4861, section 6.2). Pure."""

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface
from random import Random

from hoaflow.home_agent.cache import Policy
from hoaflow.mobility.router_advertisements import HomeAgentInformation, PrefixInformation, RouterAdvertisement

LONGEST_INTERVAL = 1800
"""Seconds (RFC 4861, section 6.2.1)."""
HIGHEST_PREFERENCE = 0xFFFF
LIFETIME_INTERVALS = 3
"""The lifetime of home agent and default router, in intervals (AdvDefaultLifetime, RFC 4861, section 6.2.1)."""
VALID_LIFETIME, PREFERRED_LIFETIME = 2_592_000, 604_800
"""Of the home prefix, in seconds: AdvValidLifetime and AdvPreferredLifetime (RFC 4861, section 6.2.1).

No binding outlives it, as RFC 6275, section 10.6.3 demands: the longest that a lifetime field can say is 262,140 s.
"""
LEAST_SHARE = 0.33
"""MinRtrAdvInterval in MaxRtrAdvInterval."""
INITIAL_INTERVAL, INITIAL_TIMES = 16.0, 3
LONGEST_DELAY = 0.5
LEAST_PAUSE = 3.0
"""Seconds, RFC 4861, section 10: MAX_INITIAL_RTR_ADVERT_INTERVAL, MAX_RA_DELAY_TIME, MIN_DELAY_BETWEEN_RAS."""


@dataclass(frozen=True, slots=True)
class Advertising:
    """How the home agent advertises itself: at least every `interval` seconds, with a preference of 0 to 65535.

    `anycast` is the address of all home agents of the home prefix. Without a preference, it is made of the load.
    `default_router`: hosts of the home link send by this host, and form addresses in the home prefix.
    """

    anycast: IPv6Address
    interval: int
    preference: int | None = 0
    default_router: bool = False

    @property
    def lifetime(self) -> int:
        """Seconds after which others forget this home agent if they hear nothing of it."""
        return LIFETIME_INTERVALS * self.interval

    def preference_with(self, bindings: int, most: int) -> int:
        """Return the preference of a home agent that holds so many bindings of the most that it takes."""
        if self.preference is not None:
            return self.preference
        return HIGHEST_PREFERENCE * max(0, most - bindings) // most


def home_prefix_information(advertising: Advertising, policy: Policy) -> PrefixInformation:
    """Return what is advertised of the home prefix, with the home agent's own address (RFC 6275, section 7.2)."""
    return PrefixInformation(
        IPv6Interface((policy.home_agent, policy.home_prefix.prefixlen)),
        VALID_LIFETIME,
        PREFERRED_LIFETIME,
        autonomous=advertising.default_router,
        router_address=True,
    )


def home_agent_advertisement(
    advertising: Advertising, policy: Policy, source: str, preference: int
) -> RouterAdvertisement:
    """Return the home agent's Router Advertisement, from its link-local address."""
    return RouterAdvertisement(
        source,
        router_lifetime=advertising.lifetime if advertising.default_router else 0,
        prefixes=(home_prefix_information(advertising, policy),),
        home_agent=True,
        information=HomeAgentInformation(preference, advertising.lifetime, bool(policy.mobile_networks)),
    )


def withdrawal(source: str) -> RouterAdvertisement:
    """Return the last Router Advertisement, by which a router stops being a home agent or default router.

    The Home Agent Information option must not have lifetime 0 (RFC 6275, section 7.4), so there is none.
    """
    return RouterAdvertisement(source, router_lifetime=0)


class Schedule:
    """When to advertise (RFC 4861, sections 6.2.4 and 6.2.6): at `due`, monotonic seconds."""

    def __init__(self, interval: float, random: Random, now: float) -> None:
        self._interval, self._random = interval, random
        self._initial = INITIAL_TIMES
        self._earliest = self.due = now

    def sent(self, now: float) -> None:
        """Plan the next one, as one has been sent."""
        longest = self._interval
        if self._initial:
            self._initial -= 1
            longest = min(longest, INITIAL_INTERVAL)
        self.due = now + self._random.uniform(LEAST_SHARE * longest, longest)
        # Home agents may advertise more often than other routers (RFC 6275, section 7.5).
        self._earliest = now + min(LEAST_PAUSE, LEAST_SHARE * longest)

    def solicited(self, now: float) -> None:
        """Advertise soon, as a host has solicited routers; one answer is for all who ask until then."""
        self.due = min(self.due, max(self._earliest, now + self._random.uniform(0, LONGEST_DELAY)))
