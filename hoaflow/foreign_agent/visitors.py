# SPDX-License-Identifier: Apache-2.0
"""Keep the pending requests and the visitors of a foreign agent (RFC 5944, section 3.7). Pure: time is an argument.

The foreign agent cannot tell whether a request is authentic. So nothing is served that the home agent has not accepted,
and a pending request is not replaced by a copy that somebody else sends.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hoaflow.deadlines import earliest
from hoaflow.foreign_agent.checks import Policy, Station, Visit, refusal
from hoaflow.mobile_ipv4.messages import FOREVER, FRACTION, Code, Flag, RegistrationReply, RegistrationRequest
from hoaflow.mobility.entries import Entries

PENDING_SECONDS = 7.0
"""How long the home agent has to answer (RFC 5944, section 3.7.2.2)."""
MOST_PENDING = 1000
RETRY_SECONDS = 1.0
"""Seconds between attempts at a removal that the kernel refuses."""
CENTURY = 100 * 365 * 86400.0
"""Seconds; what does not end is due then."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A relayed request that the home agent has not answered. `due`: when that is too late."""

    visit: Visit
    due: float


@dataclass(frozen=True, slots=True)
class Visitor:
    """A mobile node that its home agent has accepted here. `lifetime`: granted, in seconds. `due`: when it ends."""

    visit: Visit
    lifetime: int
    due: float

    @property
    def home_address(self) -> str:
        """The key of the entry."""
        return self.visit.home_address

    @property
    def home_agent(self) -> str:
        """The other end of its tunnel."""
        return self.visit.request.home_agent

    @property
    def station(self) -> Station:
        """Where it is."""
        return self.visit.station

    @property
    def reverse_tunnel(self) -> bool:
        """Whether what it sends goes into a tunnel, too."""
        return self.visit.request.reverse_tunnel

    @property
    def endless(self) -> bool:
        """Whether only the mobile node ends it."""
        return self.lifetime == FOREVER


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop a message silently. `reason` is for logs and counters."""

    reason: str


@dataclass(frozen=True, slots=True)
class Relay:
    """Send a request on to its home agent."""

    visit: Visit


@dataclass(frozen=True, slots=True)
class Deny:
    """Answer a request with a refusal of the foreign agent. `lifetime`: the longest, if the one asked for is longer."""

    visit: Visit
    code: Code
    lifetime: int = 0


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send the home agent's reply on to the mobile node."""

    visit: Visit
    reply: RegistrationReply


@dataclass(frozen=True, slots=True)
class Serve:
    """Have the kernel carry a visitor's packets, in place of the entry `previous`."""

    visitor: Visitor
    previous: Visitor | None


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove a visitor from the kernel, then call `Visitors.forgotten`."""

    visitor: Visitor
    reason: str


Action = Discard | Relay | Deny | Deliver | Serve | Forget


class Visitors:
    """The lists, keyed by home address. Methods return actions in the order in which to carry them out."""

    def __init__(self, policy: Policy) -> None:
        """Start empty."""
        self._policy = policy
        self._pending: Entries[Pending] = Entries()
        self._visitors: Entries[Visitor] = Entries()

    def __len__(self) -> int:
        return len(self._visitors)

    def __iter__(self) -> Iterator[Visitor]:
        return iter(self._visitors)

    def get(self, home_address: str) -> Visitor | None:
        """Return a home address's visitor."""
        return self._visitors.get(home_address)

    @property
    def full(self) -> bool:
        """Whether no further visitor finds room (flag B of advertisements)."""
        return len(self._visitors) >= self._policy.max_visitors or len(self._pending) >= MOST_PENDING

    def request(self, visit: Visit, now: float) -> list[Action]:
        """Handle a Registration Request."""
        if (code := refusal(self._policy, visit)) is not None:
            return [Deny(visit, code, self._policy.max_lifetime if code is Code.LIFETIME_TOO_LONG else 0)]
        home_address, known = visit.home_address, visit.home_address in self._visitors
        pending = self._pending.get(home_address)
        if pending is None and self.full and not known and not visit.request.deregistration:
            return [Deny(visit, Code.FOREIGN_AGENT_FULL)]
        if pending is not None and pending.visit.station != visit.station and _same(pending.visit.request, visit):
            return [Discard(f"a copy of the pending request of {home_address}")]
        self._pending.put(home_address, Pending(visit, now + PENDING_SECONDS))
        return [Relay(visit)]

    def replied(self, reply: RegistrationReply, source: str, now: float) -> list[Action]:
        """Handle a Registration Reply that came from `source` (RFC 5944, section 3.7.3)."""
        visit = self._answered(reply.home_address, reply.identification)
        if visit is None or not visit.request.home_agent == reply.home_agent == source:
            return [Discard(f"no request of {reply.home_address} waits for this reply of {source}")]
        self._pending.remove(reply.home_address)
        if reply.authentication is None:
            return [Deny(visit, Code.POORLY_FORMED_REPLY)]
        delivered = Deliver(visit, reply)
        return [*self._accepted(visit, reply, now), delivered] if reply.accepted else [delivered]

    def malformed(self, reply: RegistrationReply, source: str) -> list[Action]:
        """Handle a reply whose extensions cannot be read: the mobile node learns of it (code 71)."""
        visit = self._answered(reply.home_address, reply.identification)
        if visit is None or visit.request.home_agent != source:
            return [Discard(f"a malformed reply of {source}")]
        self._pending.remove(reply.home_address)
        return [Deny(visit, Code.POORLY_FORMED_REPLY)]

    def unreachable(self, request: RegistrationRequest, code: Code) -> list[Action]:
        """Handle an ICMP error about a relayed request."""
        visit = self._answered(request.home_address, request.identification)
        if visit is None:
            return [Discard(f"an error about no pending request of {request.home_address}")]
        self._pending.remove(request.home_address)
        return [Deny(visit, code)]

    def forgotten(self, home_address: str) -> None:
        """Record that the kernel has nothing of a visitor any more."""
        self._visitors.remove(home_address)

    def tick(self, now: float) -> list[Action]:
        """End what is due. Call it again no later than at `next_due`."""
        actions: list[Action] = []
        for pending in self._pending.due(now):
            self._pending.remove(pending.visit.home_address)
            actions.append(Deny(pending.visit, Code.REGISTRATION_TIMEOUT))
        for visitor in self._visitors.due(now):
            self._put(Visitor(visitor.visit, visitor.lifetime, now + RETRY_SECONDS))
            actions.append(Forget(visitor, "expired"))
        return actions

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which `tick` has something to do, None for never."""
        return earliest(self._pending.next_due(), self._visitors.next_due())

    def _answered(self, home_address: str, identification: int) -> Visit | None:
        """Return the pending request that an identification belongs to: its lower half is the mobile node's."""
        pending = self._pending.get(home_address)
        if pending is None or pending.visit.request.identification % FRACTION != identification % FRACTION:
            return None
        return pending.visit

    def _accepted(self, visit: Visit, reply: RegistrationReply, now: float) -> list[Action]:
        request, known = visit.request, self._visitors.get(visit.home_address)
        lifetime = min(reply.lifetime, request.lifetime)
        if request.deregistration:
            here = request.care_of_address in (self._policy.care_of_address, request.home_address)
            return [Forget(known, "deregistered")] if known is not None and here else []
        if not lifetime or Flag.DECAPSULATION in request.flags:
            return [] if known is None else [Forget(known, "moved")]
        due = now + (CENTURY if lifetime == FOREVER else lifetime)
        return [Serve(self._put(Visitor(visit, lifetime, due)), known)]

    def _put(self, visitor: Visitor) -> Visitor:
        return self._visitors.put(visitor.home_address, visitor)


def _same(request: RegistrationRequest, visit: Visit) -> bool:
    return request.identification == visit.request.identification
