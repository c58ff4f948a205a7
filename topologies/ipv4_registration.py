# SPDX-License-Identifier: Apache-2.0
"""Keep a mobile node's registration of Mobile IPv4 (RFC 5944, section 3.6): pure, with time as an argument."""

from enum import Enum

from hoaflow.mobile_ipv4 import wire
from hoaflow.mobile_ipv4.authentication import SecurityAssociation
from hoaflow.mobile_ipv4.messages import (
    BY_FOREIGN_AGENT,
    FOREVER,
    FRACTION,
    Code,
    Flag,
    RegistrationReply,
    RegistrationRequest,
    identification_at,
    seconds_from,
)

INITIAL_TIMEOUT, MAX_TIMEOUT = 1.0, 32.0
"""Seconds to wait for a reply: at first, at most (RFC 5944, section 3.6.3)."""
REFRESH_AT = 2 / 3
"""Part of the lifetime after which it registers anew: leaves room for several tries."""
MOST_CORRECTIONS = 3
"""Clocks taken over from the home agent in a row before it waits as after any other refusal."""


class Outcome(Enum):
    """Say what a Registration Reply meant."""

    IGNORED = "ignored"
    REGISTERED = "registered"
    DEREGISTERED = "deregistered"
    CORRECTED = "clock-corrected"
    REFUSED = "refused"


class Registration:
    """Decide what to send, and when. The care-of address is the mobile node's own (co-located) or a foreign agent's."""

    def __init__(
        self, home_address: str, home_agent: str, lifetime: int, reverse_tunnel: bool, association: SecurityAssociation
    ) -> None:
        """Start without a binding; ask for `lifetime` seconds."""
        self._home_address, self._home_agent, self._wanted_lifetime = home_address, home_agent, lifetime
        self._reverse_tunnel = Flag.REVERSE_TUNNEL if reverse_tunnel else Flag(0)
        self._by_agent, self._lifetime = False, lifetime
        self._association = association
        self._care_of_address: str | None = None  # None: no link
        self._outstanding: RegistrationRequest | None = None
        self._sent_at = 0.0
        self._timeout, self._corrections = INITIAL_TIMEOUT, 0
        self._due: float | None = None  # next request
        self._ahead = 0.0  # seconds, of the home agent's clock
        self._expires: float | None = None  # of the binding, as far as known; None: no binding

    def attach(self, care_of_address: str, now: float, by_agent: bool = False, longest: int = FOREVER) -> None:
        """Record the address on the current link; the home address stands for the home link.

        by_agent: it is that of a foreign agent, which relays registrations of at most `longest` seconds.
        """
        self._care_of_address, self._outstanding = care_of_address, None
        self._by_agent, self._lifetime = by_agent, min(self._wanted_lifetime, longest)
        self._timeout, self._corrections = INITIAL_TIMEOUT, 0
        self._due = None if self._at_home() and self._expires is None else now

    def detach(self) -> None:
        """Record that there is no link: nothing can be sent, and the home agent keeps the binding."""
        self._care_of_address, self._outstanding, self._due = None, None, None

    def tick(self, now: float, clock: float) -> RegistrationRequest | None:
        """Return the request to send now, None if none is due. `clock`: seconds since 1970."""
        if self._expires is not None and self._expires <= now:
            self._expires = None
        if self._due is None or self._due > now or self._care_of_address is None:
            return None
        if self._outstanding is not None:
            self._timeout = min(2 * self._timeout, MAX_TIMEOUT)
        self._outstanding = RegistrationRequest(
            source=self._home_address if self._by_agent else self._care_of_address,
            port=0,
            home_address=self._home_address,
            home_agent=self._home_agent,
            care_of_address=self._care_of_address,
            lifetime=0 if self._at_home() else self._lifetime,
            identification=identification_at(clock + self._ahead),
            flags=self._reverse_tunnel | (Flag(0) if self._by_agent else Flag.DECAPSULATION),
        )
        self._sent_at, self._due = now, now + self._timeout
        return self._outstanding

    def signed(self, request: RegistrationRequest) -> bytes:
        """Return a request as it is sent."""
        return self._association.sign(wire.request(request))

    def replied(self, reply: RegistrationReply, now: float) -> Outcome:
        """Apply a reply (RFC 5944, section 3.6.2); ignore one that is not authentic, or not to the last request."""
        request, found = self._outstanding, reply.authentication
        if request is None or reply.identification % FRACTION != request.identification % FRACTION:
            return Outcome.IGNORED
        if self._by_agent and reply.code in BY_FOREIGN_AGENT:  # nobody vouches for it, so the next try comes as planned
            return Outcome.REFUSED
        if found is None or not self._association.vouches_for(found):
            return Outcome.IGNORED
        if reply.code == Code.IDENTIFICATION_MISMATCH:
            self._ahead += seconds_from(request.identification, reply.identification)
            self._corrections += 1
            return self._later(now) if self._corrections > MOST_CORRECTIONS else self._at_once(now)
        if not reply.accepted:
            return self._later(now)
        self._outstanding, self._timeout, self._corrections = None, INITIAL_TIMEOUT, 0
        if request.deregistration:
            self._expires = self._due = None
            return Outcome.DEREGISTERED
        endless = reply.lifetime == FOREVER
        self._expires = float("inf") if endless else self._sent_at + reply.lifetime
        self._due = None if endless else self._sent_at + reply.lifetime * REFRESH_AT
        return Outcome.REGISTERED

    def next_due(self) -> float | None:
        """Return the time at which `tick` must be called next, None if nothing is due."""
        return self._due

    def _at_home(self) -> bool:
        return self._care_of_address == self._home_address

    def _at_once(self, now: float) -> Outcome:
        self._outstanding, self._due = None, now
        return Outcome.CORRECTED

    def _later(self, now: float) -> Outcome:
        self._outstanding, self._due, self._corrections = None, now + MAX_TIMEOUT, 0
        return Outcome.REFUSED
