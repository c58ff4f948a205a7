# SPDX-License-Identifier: Apache-2.0
"""Keep the binding cache of a home agent (RFC 6275, sections 9.5 and 10.3; of mobile routers RFC 3963, section 6).

Pure: time is an argument, and every method returns the actions to carry out.

Replay: RFC 6275 lets any sequence number start a new binding, so a recorded Binding Update could be replayed after a
deregistration or an expiry. With authentication, the last authenticated sequence number of each home address is
therefore kept beyond the end of its binding, even if that update was then refused. An older number gets status 135 with
the one kept, and the mobile node continues from there. Without authentication (`--insecure`), any number starts a new
binding, as in RFC 6275.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network

from hoaflow.home_agent.ipv4_home_addresses import NO_IPV4_HOME_ADDRESSES, Ipv4HomeAddresses
from hoaflow.home_agent.prefix_table import NO_MOBILE_NETWORKS, PrefixTable
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.entries import Entries
from hoaflow.mobility.home_agent_discovery import home_agents_anycast
from hoaflow.mobility.messages import LIFETIME_UNIT, BindingUpdate, Ipv4AddressAcknowledgement, Status
from hoaflow.sequence import is_newer

DAD_SECONDS = 1.0
"""RetransTimer (RFC 4861, section 10) times DupAddrDetectTransmits (RFC 4862, section 5.1)."""
RETRY_SECONDS = 1.0
"""Seconds between attempts at a removal that the kernel refuses."""


class State(StrEnum):
    """State of an entry, as UMIP's terminal names it."""

    DAD = "dad"
    REGISTERED = "registered"
    DYING = "dying"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the home agent grants. `max_lifetime` is in seconds; `keys` is by home address, None: no authentication."""

    home_agent: str
    home_prefix: IPv6Network
    max_lifetime: int
    max_bindings: int
    keys: Mapping[str, SecurityAssociation] | None
    mobile_networks: PrefixTable = NO_MOBILE_NETWORKS
    ipv4: Ipv4HomeAddresses = NO_IPV4_HOME_ADDRESSES


@dataclass(frozen=True, slots=True)
class Binding:
    """An entry of the cache.

    `update` is the latest accepted Binding Update, `lifetime` what was granted, in seconds. `due` is when the state
    ends: duplicate address detection is over, the lifetime expires, or a removal is tried again. `mobile_networks` are
    the prefixes of a mobile router's networks, `ipv4_home_address` that of a dual-stack mobile node (RFC 5555).
    """

    update: BindingUpdate
    state: State
    lifetime: int
    due: float
    mobile_networks: tuple[str, ...] = ()
    ipv4_home_address: str | None = None

    @property
    def home_address(self) -> str:
        """The key of the entry."""
        return self.update.home_address

    @property
    def care_of_address(self) -> str:
        """Where the mobile node is."""
        return self.update.care_of_address

    @property
    def defended(self) -> tuple[str, ...]:
        """Addresses that the home agent defends on the home link; with flag L, the link-local one, too."""
        if not self.update.link_local:
            return (self.home_address,)
        interface_identifier = int(IPv6Address(self.home_address)) & (2**64 - 1)
        return self.home_address, str(IPv6Address((0xFE80 << 112) | interface_identifier))


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop the update silently. `reason` is for logs and counters."""

    reason: str


@dataclass(frozen=True, slots=True)
class StartDad:
    """Ask on the home link whether another node has one of the binding's defended addresses."""

    binding: Binding


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Answer an update. `lifetime` is in seconds; `association` authenticates the answer.

    `ipv4`: what is said about the IPv4 home address, if the update is accepted and asks for one.
    """

    update: BindingUpdate
    status: Status
    sequence: int
    lifetime: int
    association: SecurityAssociation | None
    ipv4: Ipv4AddressAcknowledgement | None = None


@dataclass(frozen=True, slots=True)
class Install:
    """Make the kernel tunnel for this binding, which replaces the registered entry `previous`.

    Then send `acknowledge`, if there is one. If the kernel refuses, call `BindingCache.install_failed`.
    """

    binding: Binding
    previous: Binding | None
    acknowledge: Acknowledge | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the binding from the kernel, then call `BindingCache.removed`."""

    binding: Binding
    reason: str


Action = Discard | StartDad | Install | Remove | Acknowledge


class BindingCache:
    """The cache, keyed by home address. Methods return actions in the order in which to carry them out."""

    def __init__(self, policy: Policy, sequences: Mapping[str, int] | None = None) -> None:
        """Start empty. `sequences`: last authenticated sequence numbers by home address, from before a restart."""
        self._policy = policy
        reserved = (IPv6Address(policy.home_agent), policy.home_prefix.network_address)
        self._reserved = {*reserved, home_agents_anycast(policy.home_prefix)}
        """Our own address, and the anycast addresses of the link's routers and home agents."""
        self._bindings: Entries[Binding] = Entries()
        self._authenticated = dict(sequences or {})
        self.draining = False
        """Whether no mobile node is taken that has no binding (129); those that have one keep it until they leave."""

    def __len__(self) -> int:
        return len(self._bindings)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings)

    def get(self, home_address: str) -> Binding | None:
        """Return a home address's entry."""
        return self._bindings.get(home_address)

    @property
    def sequences(self) -> Mapping[str, int]:
        """Last authenticated sequence numbers by home address. They must survive restarts, to refuse replays."""
        return self._authenticated

    def update(self, update: BindingUpdate, now: float) -> list[Action]:
        """Handle a Binding Update (RFC 6275, sections 9.5.1, 10.3.1 and 10.3.2; RFC 4285, section 5.1)."""
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
        """Refuse (134) the registration that waits for this address, which another node on the home link has."""
        for binding in self._bindings:
            if binding.state is State.DAD and address in binding.defended:
                self._bindings.remove(binding.home_address)
                return [self._answer(binding.update, Status.DUPLICATE_ADDRESS)]
        return []

    def restore(self, update: BindingUpdate, lifetime: int, left: float, now: float) -> list[Action]:
        """Restore a binding after a restart, `left` seconds before it expires, without an acknowledgement.

        Returns nothing if the policy no longer covers it.
        """
        keys = self._policy.keys
        if self._refusal(update) is not None or (keys is not None and update.home_address not in keys):
            return []
        binding = self._binding(update, State.REGISTERED, lifetime, now + left)
        return [Install(self._bindings.put(update.home_address, binding), None, None)]

    def install_failed(self, home_address: str, now: float) -> list[Action]:
        """Withdraw and refuse (128; 143 for a mobile router) a binding that the kernel did not accept."""
        binding = self._bindings[home_address]
        status = Status.FORWARDING_SETUP_FAILED if binding.update.mobile_router else Status.REASON_UNSPECIFIED
        return [
            self._dying(binding, "failed", now),
            self._answer(binding.update, status),
        ]

    def removed(self, home_address: str) -> None:
        """Forget a binding that has been removed from the kernel."""
        binding = self._bindings.get(home_address)
        if binding is not None and binding.state is State.DYING:
            self._bindings.remove(home_address)

    def tick(self, now: float) -> list[Action]:
        """Handle what is due: ends of duplicate address detection, expired lifetimes, removals to try again."""
        actions: list[Action] = []
        for binding in self._bindings.due(now):
            if binding.state is State.DAD:
                actions.append(self._activate(binding, None, now))
            else:
                reason = "expired" if binding.state is State.REGISTERED else "retry"
                actions.append(self._dying(binding, reason, now))
        return actions

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which `tick` has something to do, None for never."""
        return self._bindings.next_due()

    def _unfit(self, update: BindingUpdate) -> str | None:
        """Return why an update is to be discarded silently (RFC 6275, section 9.5.1)."""
        if not update.home_registration and update.home_address not in self._bindings:
            # Meant for a correspondent node. No keygen token was ever given out here, so no authenticator can be right.
            return "no home registration: no route optimisation here"
        for name, address in (
            ("home address", update.home_address),
            ("source", update.source),
            ("care-of address", update.care_of_address),  # section 6.1.7
        ):
            if not routable_unicast(IPv6Address(address)):
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
        bound = None if binding is None or binding.state is State.DYING else binding
        if not update.home_registration:
            return Status.REGISTRATION_TYPE_CHANGE
        if home_address not in prefix:
            return Status.NOT_HOME_SUBNET
        if update.deregistration:
            return None if bound is not None else Status.NOT_HOME_AGENT
        if home_address in self._reserved:
            return Status.ADMINISTRATIVELY_PROHIBITED
        if care_of in prefix:
            # On the home link it would be another node's home address, and the tunnel would lead into itself.
            return Status.ADMINISTRATIVELY_PROHIBITED
        if self._leads_back(update):
            return Status.ADMINISTRATIVELY_PROHIBITED
        if binding is None and self.draining:
            return Status.ADMINISTRATIVELY_PROHIBITED
        if binding is None and len(self._bindings) >= self._policy.max_bindings:
            return Status.INSUFFICIENT_RESOURCES
        if bound is not None and bound.update.mobile_router is not update.mobile_router:
            return Status.REGISTRATION_TYPE_CHANGE  # RFC 3963, section 6.2
        return self._policy.mobile_networks.refusal(update) if update.mobile_router else None

    def _leads_back(self, update: BindingUpdate) -> bool:
        """Tell whether packets to the care-of address would come back, by mobile networks within mobile networks."""
        router_of = self._policy.mobile_networks.router_of
        router = router_of(update.care_of_address)
        while router is not None and router != update.home_address:
            binding = self._bindings.get(router)
            router = None if binding is None else router_of(binding.care_of_address)
        return router is not None

    def _binding(self, update: BindingUpdate, state: State, lifetime: int, due: float) -> Binding:
        policy = self._policy
        return Binding(update, state, lifetime, due, policy.mobile_networks.networks(update), policy.ipv4.given(update))

    def _register(self, update: BindingUpdate, now: float) -> list[Action]:
        previous = self._bindings.get(update.home_address)
        lifetime = min(update.lifetime, self._policy.max_lifetime) // LIFETIME_UNIT * LIFETIME_UNIT
        if previous is None:
            binding = self._binding(update, State.DAD, lifetime, now + DAD_SECONDS)
            return [StartDad(self._bindings.put(update.home_address, binding))]
        if previous.state is State.DAD:  # it moves or repeats its request during duplicate address detection
            self._bindings.put(update.home_address, self._binding(update, State.DAD, lifetime, previous.due))
            return []
        if previous.state is State.DYING:  # still in the kernel, so the address has been defended all along
            previous = None
        return [self._activate(self._binding(update, State.REGISTERED, lifetime, now), previous, now)]

    def _activate(self, binding: Binding, previous: Binding | None, now: float) -> Install:
        active = replace(binding, state=State.REGISTERED, due=now + binding.lifetime)
        self._bindings.put(binding.home_address, active)
        answer = self._answer(binding.update, Status.ACCEPTED, binding.lifetime)
        return Install(active, previous, answer if binding.update.acknowledge else None)

    def _deregister(self, update: BindingUpdate, now: float) -> list[Action]:
        binding = self._bindings[update.home_address]
        actions: list[Action] = []
        if binding.state is State.DAD:
            self._bindings.remove(update.home_address)  # the kernel knows nothing of it yet
        else:
            actions.append(self._dying(binding, "deregistered", now))
        if update.acknowledge:
            actions.append(self._answer(update, Status.ACCEPTED))
        return actions

    def _dying(self, binding: Binding, reason: str, now: float) -> Remove:
        dying = replace(binding, state=State.DYING, due=now + RETRY_SECONDS)
        self._bindings.put(binding.home_address, dying)
        return Remove(dying, reason)

    def _answer(self, update: BindingUpdate, status: Status, lifetime: int = 0) -> Acknowledge:
        association = self._policy.keys[update.home_address] if self._policy.keys is not None else None
        ipv4 = self._policy.ipv4.answer(update) if status is Status.ACCEPTED else None
        return Acknowledge(update, status, update.sequence, lifetime, association, ipv4)


def routable_unicast(address: IPv6Address) -> bool:
    """Tell whether packets can be routed there. Documentation prefixes count, as laboratories use them."""
    return not (
        address.is_multicast
        or address.is_link_local
        or address.is_loopback
        or address.is_unspecified
        or address.ipv4_mapped is not None
    )
