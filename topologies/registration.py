# SPDX-License-Identifier: Apache-2.0
"""Keep a mobile node's home registration (RFC 6275, 11.7 and 11.8; of a mobile router RFC 3963, 5.2 and 5.3): pure."""

from enum import Enum

from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.home_agent_switch import HomeAgentSwitch
from hoaflow.mobility.messages import (
    BindingAcknowledgement,
    BindingUpdate,
    Ipv4AddressStatus,
    MnHaAuthentication,
    Status,
)
from hoaflow.sequence import is_newer, next_sequence

INITIAL_TIMEOUT = 1.0
INITIAL_TIMEOUT_FIRST_REGISTRATION = 1.5
MAX_TIMEOUT = 32.0
"""Seconds (RFC 6275, section 12): for the first answer, for the very first (the home agent does DAD), at most."""
REFRESH_AT = 2 / 3
"""Part of the lifetime after which the binding is refreshed: leaves room for several tries."""
MAX_CORRECTIONS = 3
"""Sequence numbers taken over from status 135 in a row before it waits as after any other refusal."""


class Outcome(Enum):
    """Say what a Binding Acknowledgement meant to the registration."""

    IGNORED = "ignored"
    REGISTERED = "registered"
    DEREGISTERED = "deregistered"
    CORRECTED = "sequence-corrected"
    REFUSED = "refused"


class Registration:
    """Keep the home agent's entry of the binding update list: what to send, and when (RFC 6275, 11.1)."""

    def __init__(
        self,
        home_address: str,
        home_agent: str,
        lifetime: int,
        sequence: int,
        association: SecurityAssociation | None,
        mobile_router: bool = False,
        named_networks: tuple[str, ...] = (),
        ipv4_home_address: str | None = None,
    ) -> None:
        """Start without a binding; ask for `lifetime` seconds, number from after `sequence`.

        A mobile router names its networks in explicit mode, and none in implicit mode. A dual-stack node has an
        `ipv4_home_address`.
        """
        self._home_address, self._home_agent = home_address, home_agent
        self._lifetime, self._sequence = lifetime, sequence
        self._association = association
        self._mobile_router, self._named_networks = mobile_router, named_networks
        self._ipv4_home_address = ipv4_home_address
        self._care_of_address: str | None = None  # None: no link
        self._released = False
        self._outstanding: BindingUpdate | None = None
        self._sent_at = 0.0
        self._timeout = INITIAL_TIMEOUT
        self._corrections = 0
        self._due: float | None = None  # next update
        self.expires: float | None = None  # of the binding at the home agent, as far as known; None: no binding

    @property
    def bound(self) -> bool:
        """Return whether the home agent has a binding, as far as the mobile node knows."""
        return self.expires is not None

    @property
    def over(self) -> bool:
        """Return whether it was released and no binding is left."""
        return self._released and not self.bound

    def attach(self, care_of_address: str, now: float) -> None:
        """Record the address on the current link; the home address stands for the home link."""
        self._care_of_address = care_of_address
        self._outstanding, self._corrections = None, 0
        self._timeout = INITIAL_TIMEOUT if self.bound else INITIAL_TIMEOUT_FIRST_REGISTRATION
        self._due = None if self._ending() and not self.bound else now

    def release(self, now: float) -> None:
        """End the binding wherever the node is: nobody uses the home address any more (RFC 6275, 11.7.1)."""
        self._released = True
        if self._outstanding is not None and not self.bound:  # the home agent may have accepted it
            self.expires = now + self._lifetime
        self._outstanding, self._corrections, self._timeout = None, 0, INITIAL_TIMEOUT
        self._due = now if self.bound else None

    def detach(self) -> None:
        """Record that there is no link: nothing can be sent, and the home agent keeps the binding."""
        self._care_of_address, self._outstanding, self._due = None, None, None

    def tick(self, now: float) -> BindingUpdate | None:
        """Return the Binding Update to send now, None if none is due; each has a new sequence number (11.8)."""
        if self.expires is not None and self.expires <= now:
            self.expires = None
            if self._ending():  # nothing left to deregister
                self._due = self._outstanding = None
        if self._due is None or self._due > now or self._care_of_address is None:
            return None
        if self._outstanding is not None:
            self._timeout = min(2 * self._timeout, MAX_TIMEOUT)
        self._sequence = next_sequence(self._sequence)
        self._outstanding = BindingUpdate(
            source=self._care_of_address,
            destination=self._home_agent,
            home_address=self._home_address,
            care_of_address=self._care_of_address,
            sequence=self._sequence,
            lifetime=0 if self._ending() else self._lifetime,
            mobile_router=self._mobile_router,
            mobile_networks=() if self._ending() else self._named_networks,
            ipv4_home_address=None if self._ending() else self._ipv4_home_address,
        )
        self._sent_at, self._due = now, now + self._timeout
        return self._outstanding

    def acknowledged(self, acknowledgement: BindingAcknowledgement, now: float) -> Outcome:
        """Apply an acknowledgement (RFC 6275, 11.7.3); ignore one that is not authentic (RFC 4285)."""
        update = self._outstanding
        if (
            update is None
            or acknowledgement.source != self._home_agent
            or acknowledgement.home_address != self._home_address
            or not self._authentic(acknowledgement, update)
        ):
            return Outcome.IGNORED
        told = acknowledgement.sequence
        if acknowledgement.status == Status.SEQUENCE_OUT_OF_WINDOW:
            if is_newer(update.sequence, than=told):
                return Outcome.IGNORED  # an answer to an older update
            self._sequence = told
            self._corrections += 1
            return self._retry_later(now) if self._corrections > MAX_CORRECTIONS else self._retry_now(now)
        if told != update.sequence:
            return Outcome.IGNORED
        if update.deregistration:
            if acknowledgement.accepted or acknowledgement.status == Status.NOT_HOME_AGENT:
                self.expires = self._due = self._outstanding = None
                return Outcome.DEREGISTERED
            return self._retry_later(now)
        # Without flag R, the home agent serves mobile nodes only (RFC 3963, section 5.3).
        # Its packets would be lost in a tunnel without its IPv4 home address, so a dual-stack node tries again, too.
        ipv4 = acknowledgement.ipv4
        lacks_ipv4 = self._ipv4_home_address is not None and (ipv4 is None or ipv4.status != Ipv4AddressStatus.ACCEPTED)
        lacks_networks = self._mobile_router and not acknowledgement.mobile_router
        if not acknowledgement.accepted or lacks_networks or lacks_ipv4:
            return self._retry_later(now)
        # Counted from when the update was sent: never longer than the home agent counts.
        self.expires = self._sent_at + acknowledgement.lifetime
        self._due = self._sent_at + acknowledgement.lifetime * REFRESH_AT
        self._outstanding, self._timeout, self._corrections = None, INITIAL_TIMEOUT, 0
        return Outcome.REGISTERED

    def must_leave(self, message: HomeAgentSwitch) -> bool:
        """Tell whether our home agent says by this that the node is to leave it (RFC 5142, section 6.1)."""
        care_of_address = self._care_of_address
        if not self.bound or self._ending() or care_of_address is None:
            return False
        if (message.source, message.home_address) != (self._home_agent, self._home_address):
            return False
        return self._vouched_for(message.authentication, care_of_address)

    def next_due(self) -> float | None:
        """Return the time at which `tick` must be called next, None if nothing is due."""
        return min((moment for moment in (self._due, self.expires) if moment is not None), default=None)

    def _ending(self) -> bool:
        return self._released or self._care_of_address == self._home_address

    def _authentic(self, acknowledgement: BindingAcknowledgement, update: BindingUpdate) -> bool:
        return self._vouched_for(acknowledgement.authentication, update.care_of_address)

    def _vouched_for(self, option: MnHaAuthentication | None, care_of_address: str) -> bool:
        if self._association is None:
            return True
        return option is not None and self._association.vouches_for(option, care_of_address, self._home_address)

    def _retry_now(self, now: float) -> Outcome:
        self._outstanding, self._due = None, now
        return Outcome.CORRECTED

    def _retry_later(self, now: float) -> Outcome:
        self._outstanding, self._due = None, now + MAX_TIMEOUT
        self._corrections = 0
        return Outcome.REFUSED
