# SPDX-License-Identifier: Apache-2.0
"""Decide what Agent Advertisements say, and when they are due (RFC 5944, section 2.3). Pure: time is an argument."""

from hoaflow.foreign_agent.checks import ReverseTunnels
from hoaflow.foreign_agent.settings import Settings
from hoaflow.mobile_ipv4.advertisements import AgentAdvertisement, AgentFlag, advertisement_packet, sequence_after
from hoaflow.mobile_ipv4.packets import BROADCAST

LIFETIME_INTERVALS = 3
"""Advertisements of which two may be lost (RFC 5944, section 2.3)."""


class Advertising:
    """The advertisements of all access links, which share a sequence number."""

    def __init__(self, settings: Settings) -> None:
        """Be due at once, with sequence number 0."""
        self._interval, self._policy = settings.advertise_interval, settings.policy
        self._flags = AgentFlag.FOREIGN_AGENT
        if settings.registration_required:
            self._flags |= AgentFlag.REGISTRATION_REQUIRED
        if settings.policy.reverse_tunnels is not ReverseTunnels.UNAVAILABLE:
            self._flags |= AgentFlag.REVERSE_TUNNEL
        self._sequence: int | None = None
        self._busy = AgentFlag(0)
        self.due = 0.0
        """When the next ones are, in monotonic seconds."""

    def begin(self, now: float, busy: bool) -> None:
        """Begin the advertisements that are due; `busy`: no further visitor finds room."""
        self._sequence = 0 if self._sequence is None else sequence_after(self._sequence)
        self._busy = AgentFlag.BUSY if busy else AgentFlag(0)
        self.due = now + self._interval

    def packet(self, source: str, destination: str = BROADCAST) -> bytes:
        """Return the packet of an advertisement of now."""
        message = AgentAdvertisement(
            source,
            max(1, round(LIFETIME_INTERVALS * self._interval)),
            self._sequence or 0,
            self._policy.max_lifetime,
            self._flags | self._busy,
            (self._policy.care_of_address,),
        )
        return advertisement_packet(message, destination)
