# SPDX-License-Identifier: Apache-2.0
"""Keep the bindings of a home agent of Mobile IPv4 (RFC 5944, section 3.8). Pure: time is an argument.

Replay: a timestamp must lie within WINDOW seconds of our clock, be later than the last one that the mobile node has
used, and not be of before our start, as a restart has forgotten which were used. So nothing has to be kept on a disk.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

from hoaflow.addresses import host, parse_address, why_not_global_unicast
from hoaflow.mobile_ipv4.authentication import SecurityAssociation
from hoaflow.mobile_ipv4.messages import (
    FOREVER,
    FRACTION,
    WINDOW,
    Code,
    Flag,
    RegistrationRequest,
    identification_at,
    is_newer,
    seconds_from,
)
from hoaflow.mobile_ipv4.wire import without_authentication
from hoaflow.mobility.entries import Entries

SHOWN_SECONDS = 30.0
"""Seconds for which a deregistered entry is shown: whoever follows the cache then knows that it has ended."""
RETRY_SECONDS = 1.0
"""Seconds between attempts at a removal that the kernel refuses."""
CENTURY = 100 * 365 * 86400.0
"""Seconds; what does not end is due then."""


class State(StrEnum):
    """State of an entry: registered; about to leave the kernel; deregistered, which the kernel no longer has."""

    REGISTERED = "registered"
    DYING = "dying"
    DEREGISTERED = "deregistered"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the home agent grants. `max_lifetime` is in seconds; `keys` is by home address."""

    home_agent: str
    home_prefix: IPv4Network
    max_lifetime: int
    max_bindings: int
    keys: Mapping[str, SecurityAssociation]


@dataclass(frozen=True, slots=True)
class Binding:
    """An entry. `request`: the latest accepted one. `lifetime`: granted, in seconds. `due`: when its state ends."""

    request: RegistrationRequest
    state: State
    lifetime: int
    due: float

    @property
    def home_address(self) -> str:
        """The key of the entry."""
        return self.request.home_address

    @property
    def endless(self) -> bool:
        """Whether only the mobile node ends it."""
        return self.lifetime == FOREVER

    @property
    def care_of_address(self) -> str:
        """Where the mobile node is, or its foreign agent."""
        return self.request.care_of_address


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop the request silently. `reason` is for logs and counters."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request. `lifetime` is in seconds; `association` authenticates the answer."""

    request: RegistrationRequest
    code: Code
    lifetime: int
    identification: int
    association: SecurityAssociation


@dataclass(frozen=True, slots=True)
class Install:
    """Make the kernel tunnel for this binding, which replaces the registered entry `previous`; then send `reply`.

    If the kernel refuses, call `BindingCache.install_failed`.
    """

    binding: Binding
    previous: Binding | None
    reply: Reply


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the binding from the kernel, then call `BindingCache.removed`."""

    binding: Binding
    reason: str


Action = Discard | Reply | Install | Remove


class BindingCache:
    """The cache, keyed by home address. Methods return actions in the order in which to carry them out."""

    def __init__(self, policy: Policy, clock: float) -> None:
        """Start empty. `clock`: the time in seconds since 1970."""
        self._policy = policy
        self._bindings: Entries[Binding] = Entries()
        self._started = identification_at(clock)
        self._used: dict[str, int] = {}  # the last identification of each mobile node; it outlives its entry

    def __len__(self) -> int:
        return sum(binding.state is State.REGISTERED for binding in self._bindings)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings)

    def get(self, home_address: str) -> Binding | None:
        """Return a home address's entry."""
        return self._bindings.get(home_address)

    def request(self, request: RegistrationRequest, now: float, clock: float) -> list[Action]:
        """Handle a Registration Request (RFC 5944, sections 3.8.2 and 5.7.1). `clock`: seconds since 1970."""
        association = self._policy.keys.get(request.home_address)
        if association is None:
            return [Discard(f"no security association with {request.home_address}")]
        if request.authentication is None or not association.vouches_for(request.authentication):
            return [self._answer(request, Code.AUTHENTICATION_FAILED)]
        request = without_authentication(request)
        if not self._timely(request, clock):
            ours = identification_at(clock) // FRACTION * FRACTION + request.identification % FRACTION
            return [self._answer(request, Code.IDENTIFICATION_MISMATCH, identification=ours)]
        self._used[request.home_address] = request.identification
        if (refusal := self._refusal(request)) is not None:
            return [self._answer(request, refusal)]
        return self._deregister(request, now) if request.deregistration else self._register(request, now)

    def removed(self, home_address: str, now: float) -> None:
        """Record that the kernel has nothing of a dying entry any more."""
        binding = self._bindings[home_address]
        self._bindings.put(home_address, replace(binding, state=State.DEREGISTERED, due=now + SHOWN_SECONDS))

    def install_failed(self, home_address: str, now: float) -> list[Action]:
        """Give up a binding that the kernel refuses, and refuse the request."""
        binding = self._bindings[home_address]
        refused = self._answer(binding.request, Code.INSUFFICIENT_RESOURCES)
        return [self._dying(binding, "the kernel refuses it", now), refused]

    def tick(self, now: float) -> list[Action]:
        """End what is due. Call it again no later than at `next_due`."""
        actions: list[Action] = []
        for binding in self._bindings.due(now):
            if binding.state is State.DEREGISTERED:
                self._bindings.remove(binding.home_address)
            else:
                again = binding.state is State.DYING
                actions.append(self._dying(binding, "removal tried again" if again else "expired", now))
        return actions

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which `tick` has something to do, None for never."""
        return self._bindings.next_due()

    def _timely(self, request: RegistrationRequest, clock: float) -> bool:
        identification = request.identification
        if abs(seconds_from(identification_at(clock), identification)) > WINDOW:
            return False
        return is_newer(identification, than=self._used.get(request.home_address, self._started))

    def _refusal(self, request: RegistrationRequest) -> Code | None:
        policy = self._policy
        if request.home_agent != policy.home_agent:
            return Code.UNKNOWN_HOME_AGENT
        if request.deregistration:
            return None
        if request.flags & (Flag.MINIMAL | Flag.GRE):
            return Code.ENCAPSULATION_UNAVAILABLE
        care_of = request.care_of_address
        # On the home link it would be another node's home address, and the tunnel would lead into itself.
        if IPv4Address(care_of) in policy.home_prefix or why_not_global_unicast(host(parse_address(care_of))):
            return Code.ADMINISTRATIVELY_PROHIBITED
        bound = self._bindings.get(request.home_address)
        if bound is None and len(self._bindings) >= policy.max_bindings:
            return Code.INSUFFICIENT_RESOURCES
        return None

    def _register(self, request: RegistrationRequest, now: float) -> list[Action]:
        lifetime = min(request.lifetime, self._policy.max_lifetime)
        due = now + (CENTURY if lifetime == FOREVER else lifetime)
        previous = self._bindings.get(request.home_address)
        binding = self._bindings.put(request.home_address, Binding(request, State.REGISTERED, lifetime, due))
        # One tunnel for each mobile node, so the new care-of address takes the place of the former (section 3.4).
        several = Flag.SIMULTANEOUS in request.flags
        code = Code.ACCEPTED_WITHOUT_SIMULTANEOUS if several else Code.ACCEPTED
        registered = previous if previous is not None and previous.state is State.REGISTERED else None
        return [Install(binding, registered, self._answer(request, code, lifetime))]

    def _deregister(self, request: RegistrationRequest, now: float) -> list[Action]:
        binding = self._bindings.get(request.home_address)
        accepted = self._answer(request, Code.ACCEPTED)
        everywhere = request.care_of_address == request.home_address
        if binding is None:
            # After a restart: whoever follows the cache may still count on the binding, and learns here that it ended.
            ended = Binding(request, State.DEREGISTERED, 0, now + SHOWN_SECONDS)
            if everywhere:
                self._bindings.put(request.home_address, ended)
            return [accepted]
        if binding.state is State.DEREGISTERED or not (
            everywhere or request.care_of_address == binding.care_of_address
        ):
            return [accepted]
        return [self._dying(binding, "deregistered", now), accepted]

    def _dying(self, binding: Binding, reason: str, now: float) -> Remove:
        dying = self._bindings.put(binding.home_address, replace(binding, state=State.DYING, due=now + RETRY_SECONDS))
        return Remove(dying, reason)

    def _answer(
        self, request: RegistrationRequest, code: Code, lifetime: int = 0, identification: int | None = None
    ) -> Reply:
        number = request.identification if identification is None else identification
        return Reply(request, code, lifetime, number, self._policy.keys[request.home_address])
