# SPDX-License-Identifier: Apache-2.0
"""The binding cache of a home agent (RFC 6275, sections 9.5 and 10.3): pure, time is an argument, actions come out.

Replay (RFC 4285 with sequence numbers). RFC 6275 lets any sequence number start a binding anew; a recorded Binding
Update could then be replayed after a deregistration or an expiry. So with authentication the last sequence number
that came authenticated is kept per home address beyond the binding's end, also when that update was refused
afterwards: an older one gets status 135 with the number kept, and the mobile node goes on from there. Without
authentication (`--insecure`) any number starts a new binding, as RFC 6275 has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network

from hoaflow.home_agent.authentication import SecurityAssociation
from hoaflow.home_agent.messages import LIFETIME_UNIT, BindingUpdate, Status
from hoaflow.sequence import is_newer

DAD_SECONDS = 1.0
"""RetransTimer (RFC 4861, section 10) times DupAddrDetectTransmits (RFC 4862, section 5.1)."""
RETRY_SECONDS = 1.0
"""How long a removal that the kernel refused waits for its next try."""


class State(StrEnum):
    """States of an entry, in the words of UMIP's terminal."""

    DAD = "dad"
    REGISTERED = "registered"
    DYING = "dying"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the home agent grants. `max_lifetime` in seconds; `keys` by home address, None: no authentication."""

    home_agent: str
    home_prefix: IPv6Network
    max_lifetime: int
    max_bindings: int
    keys: Mapping[str, SecurityAssociation] | None


@dataclass(frozen=True, slots=True)
class Binding:
    """An entry. `lifetime` is what was granted, in seconds; `due` is when the state ends: DAD done, expired, or the
    next try of a removal. `update` is the Binding Update that made it what it is.
    """

    update: BindingUpdate
    state: State
    lifetime: int
    due: float

    @property
    def home_address(self) -> str:
        return self.update.home_address

    @property
    def care_of_address(self) -> str:
        return self.update.care_of_address

    @property
    def defended(self) -> tuple[str, ...]:
        """Addresses that the home agent defends on the home link: with flag L also the link-local one."""
        if not self.update.link_local:
            return (self.home_address,)
        interface_identifier = int(IPv6Address(self.home_address)) & (2**64 - 1)
        return self.home_address, str(IPv6Address((0xFE80 << 112) | interface_identifier))


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop the update without a word; `reason` is for log and counters."""

    reason: str


@dataclass(frozen=True, slots=True)
class StartDad:
    """Ask on the home link whether someone has one of the binding's defended addresses."""

    binding: Binding


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Answer an update. `lifetime` in seconds; `association` authenticates the answer."""

    update: BindingUpdate
    status: Status
    sequence: int
    lifetime: int
    association: SecurityAssociation | None


@dataclass(frozen=True, slots=True)
class Install:
    """Bring the kernel to tunnel for this binding; `previous` is the registered entry that it takes the place of.

    When done, send `acknowledge`, if there is one; when it fails, `BindingCache.install_failed` says what to do.
    """

    binding: Binding
    previous: Binding | None
    acknowledge: Acknowledge | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Take the binding out of the kernel; report with `BindingCache.removed` when done."""

    binding: Binding
    reason: str


Action = Discard | StartDad | Install | Remove | Acknowledge


class BindingCache:
    """The cache, keyed by home address. Every method returns what is to be done, in order."""

    def __init__(self, policy: Policy, sequences: Mapping[str, int] | None = None) -> None:
        """`sequences`: the last authenticated sequence numbers by home address, from before a restart."""
        self._policy = policy
        self._bindings: dict[str, Binding] = {}
        self._authenticated = dict(sequences or {})

    def __len__(self) -> int:
        return len(self._bindings)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings.values())

    def get(self, home_address: str) -> Binding | None:
        return self._bindings.get(home_address)

    @property
    def sequences(self) -> Mapping[str, int]:
        """Last authenticated sequence number by home address: what must outlive a restart to refuse replays."""
        return self._authenticated

    def update(self, update: BindingUpdate, now: float) -> list[Action]:
        """Takes a Binding Update (RFC 6275, sections 9.5.1, 10.3.1 and 10.3.2; RFC 4285, section 5.1)."""
        if (reason := self._unfit(update)) is not None:
            return [Discard(reason)]
        association = None
        if self._policy.keys is not None:
            association = self._policy.keys.get(update.home_address)
            if association is None or update.authentication is None:
                missing = "security association" if association is None else "authentication option"
                return [Discard(f"no {missing}")]
            if not association.vouches_for(update.authentication, update.care_of_address, update.home_address):
                return [Acknowledge(update, Status.AUTHENTICATION_FAILED, update.sequence, 0, association)]
        known = self._known_sequence(update.home_address)
        if known is not None and not is_newer(update.sequence, than=known):
            return [Acknowledge(update, Status.SEQUENCE_OUT_OF_WINDOW, known, 0, association)]
        if association is not None:
            self._authenticated[update.home_address] = update.sequence
        if (refusal := self._refusal(update)) is not None:
            return [Acknowledge(update, refusal, update.sequence, 0, association)]
        return self._deregister(update, now) if update.deregistration else self._register(update, now)

    def duplicate_found(self, address: str) -> list[Action]:
        """Another node on the home link has this address: the registration that waits for it is refused (134)."""
        for binding in list(self._bindings.values()):
            if binding.state is State.DAD and address in binding.defended:
                del self._bindings[binding.home_address]
                return [self._answer(binding.update, Status.DUPLICATE_ADDRESS)]
        return []

    def restore(self, update: BindingUpdate, lifetime: int, left: float, now: float) -> list[Action]:
        """Takes a binding in again after a restart, `left` seconds before it expires; nobody is acknowledged.

        One that the policy no longer covers is left out.
        """
        keys = self._policy.keys
        if self._refusal(update) is not None or (keys is not None and update.home_address not in keys):
            return []
        binding = Binding(update, State.REGISTERED, lifetime, now + left)
        self._bindings[update.home_address] = binding
        return [Install(binding, None, None)]

    def install_failed(self, home_address: str, now: float) -> list[Action]:
        """The kernel did not take the binding: it is withdrawn, and refused (128)."""
        binding = self._bindings[home_address]
        return [
            self._dying(binding, "failed", now),
            self._answer(binding.update, Status.REASON_UNSPECIFIED),
        ]

    def removed(self, home_address: str) -> None:
        """The kernel has forgotten the binding; so does the cache."""
        binding = self._bindings.get(home_address)
        if binding is not None and binding.state is State.DYING:
            del self._bindings[home_address]

    def tick(self, now: float) -> list[Action]:
        """What time has brought: duplicate address detection done, lifetimes over, removals to try again."""
        actions: list[Action] = []
        for binding in [b for b in self._bindings.values() if b.due <= now]:
            if binding.state is State.DAD:
                actions.append(self._activate(binding, None, now))
            else:
                reason = "expired" if binding.state is State.REGISTERED else "retry"
                actions.append(self._dying(binding, reason, now))
        return actions

    def next_due(self) -> float | None:
        """When `tick` has something to do next."""
        return min((binding.due for binding in self._bindings.values()), default=None)

    def _unfit(self, update: BindingUpdate) -> str | None:
        """Why an update is silently discarded (RFC 6275, section 9.5.1)."""
        if not update.home_registration:
            # As a correspondent node: no keygen token was ever given out here, so no authenticator can be right.
            return "no home registration: no route optimisation here"
        for name, address in (("home address", update.home_address), ("source", update.source)):
            if not _routable_unicast(IPv6Address(address)):
                return f"{name} is no routable unicast address"
        return None

    def _known_sequence(self, home_address: str) -> int | None:
        binding = self._bindings.get(home_address)
        if binding is not None and binding.state is not State.DYING:
            return binding.update.sequence
        return self._authenticated.get(home_address)

    def _refusal(self, update: BindingUpdate) -> Status | None:
        home_address, care_of = IPv6Address(update.home_address), IPv6Address(update.care_of_address)
        prefix, binding = self._policy.home_prefix, self._bindings.get(update.home_address)
        if home_address not in prefix:
            return Status.NOT_HOME_SUBNET
        if update.deregistration:
            bound = binding is not None and binding.state is not State.DYING
            return None if bound else Status.NOT_HOME_AGENT
        if update.home_address == self._policy.home_agent or home_address == prefix.network_address:
            return Status.ADMINISTRATIVELY_PROHIBITED  # ours, and the subnet-router anycast address
        if not _routable_unicast(care_of) or care_of in prefix:
            # A care-of address on the home link is another node's home address: a tunnel into itself.
            return Status.ADMINISTRATIVELY_PROHIBITED
        if binding is None and len(self._bindings) >= self._policy.max_bindings:
            return Status.INSUFFICIENT_RESOURCES
        return None

    def _register(self, update: BindingUpdate, now: float) -> list[Action]:
        previous = self._bindings.get(update.home_address)
        lifetime = min(update.lifetime, self._policy.max_lifetime) // LIFETIME_UNIT * LIFETIME_UNIT
        if previous is None:
            binding = Binding(update, State.DAD, lifetime, now + DAD_SECONDS)
            self._bindings[update.home_address] = binding
            return [StartDad(binding)]
        if previous.state is State.DAD:  # it moved on, or asks again, while the question is out
            self._bindings[update.home_address] = Binding(update, State.DAD, lifetime, previous.due)
            return []
        if previous.state is State.DYING:  # still in the kernel, so the address has been defended all the while
            previous = None
        return [self._activate(Binding(update, State.REGISTERED, lifetime, now), previous, now)]

    def _activate(self, binding: Binding, previous: Binding | None, now: float) -> Install:
        active = replace(binding, state=State.REGISTERED, due=now + binding.lifetime)
        self._bindings[binding.home_address] = active
        answer = self._answer(binding.update, Status.ACCEPTED, binding.lifetime)
        return Install(active, previous, answer if binding.update.acknowledge else None)

    def _deregister(self, update: BindingUpdate, now: float) -> list[Action]:
        binding = self._bindings[update.home_address]
        actions: list[Action] = []
        if binding.state is State.DAD:
            del self._bindings[update.home_address]  # the kernel knows nothing of it yet
        else:
            actions.append(self._dying(binding, "deregistered", now))
        if update.acknowledge:
            actions.append(self._answer(update, Status.ACCEPTED))
        return actions

    def _dying(self, binding: Binding, reason: str, now: float) -> Remove:
        dying = self._bindings[binding.home_address] = replace(binding, state=State.DYING, due=now + RETRY_SECONDS)
        return Remove(dying, reason)

    def _answer(self, update: BindingUpdate, status: Status, lifetime: int = 0) -> Acknowledge:
        association = self._policy.keys[update.home_address] if self._policy.keys is not None else None
        return Acknowledge(update, status, update.sequence, lifetime, association)


def _routable_unicast(address: IPv6Address) -> bool:
    """Documentation prefixes count: laboratories use them."""
    return not (
        address.is_multicast
        or address.is_link_local
        or address.is_loopback
        or address.is_unspecified
        or address.ipv4_mapped is not None
    )
