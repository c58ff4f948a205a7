# SPDX-License-Identifier: Apache-2.0
"""Keep the binding cache of a local mobility anchor (RFC 5213, section 5).

Pure: time is an argument, and every method returns the actions to carry out.

There is one entry for each mobile node, with all its home network prefixes: they move together. Updates are ordered by
their timestamps (section 5.5), never by sequence numbers, which belong to each access gateway. A timestamp must lie
within the window around our clock, so a recorded update is worthless soon after, also when a restart has forgotten
which timestamps were accepted.

One update may be for all mobile nodes that a gateway has registered in a group (RFC 6602). It has no effect on what was
registered after it was sent, so a recording of it, within the window, has none that it has not had already.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from hoaflow.mobility.entries import Entries
from hoaflow.mobility.messages import LIFETIME_UNIT
from hoaflow.pmipv6.messages import (
    ANY_ADDRESS,
    ANY_PREFIX,
    TIMESTAMP_UNITS,
    ProxyBindingUpdate,
    Status,
    timestamp_of,
)
from hoaflow.pmipv6.mobile_nodes import MobileNode

MIN_DELAY_BEFORE_DELETE = 10.0
"""Seconds for which a deregistered entry is kept (MinDelayBeforeBCEDelete)."""
RETRY_SECONDS = 1.0
"""Seconds between attempts at a removal that the kernel refuses."""


class State(StrEnum):
    """State of an entry: registered; deregistered by its gateway; about to leave the kernel for good."""

    REGISTERED = "registered"
    DEREGISTERED = "deregistered"
    DYING = "dying"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the anchor grants. `max_lifetime` and `window` (of timestamps) are in seconds."""

    anchor: str
    mobile_nodes: Mapping[str, MobileNode]
    max_lifetime: int
    window: float
    link_local: str


@dataclass(frozen=True, slots=True)
class Binding:
    """An entry. `due`: when its state ends. `accepted`: when its last update was; `registrations`: how many were.

    `group`: its gateway's group, None if it is in none.
    """

    node: MobileNode
    gateway: str
    state: State
    lifetime: int
    due: float
    accepted: float
    registrations: int
    group: int | None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Answer an update; `timestamp` is the option's value."""

    update: ProxyBindingUpdate
    status: Status
    lifetime: int
    prefixes: tuple[str, ...]
    link_local: str | None
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class Install:
    """Make the kernel tunnel for this binding. If it refuses, call `BindingCache.install_failed`, and do no more."""

    binding: Binding
    previous: Binding | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the binding from the kernel, then call `BindingCache.removed`."""

    binding: Binding
    reason: str


@dataclass(frozen=True, slots=True)
class Revoke:
    """Tell a former access gateway that the mobile node has moved (RFC 5846)."""

    binding: Binding
    gateway: str


Action = Acknowledge | Install | Remove | Revoke


class BindingCache:
    """The cache, keyed by the mobile node's identifier. Methods return actions in the order in which to do them."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._bindings: Entries[Binding] = Entries()
        self._timestamps: dict[str, int] = {}  # of the last accepted update; they outlive entries

    def __len__(self) -> int:
        return sum(binding.state is State.REGISTERED for binding in self._bindings)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings)

    def get(self, identifier: str) -> Binding | None:
        """Return a mobile node's entry."""
        return self._bindings.get(identifier)

    def update(self, update: ProxyBindingUpdate, now: float, clock: float) -> list[Action]:
        """Handle an authenticated Proxy Binding Update (RFC 5213, sections 5.3 and 5.5).

        `clock`: the time in seconds since 1970.
        """
        if update.timestamp is None or abs(update.timestamp / TIMESTAMP_UNITS - clock) > self._policy.window:
            return [self._answer(update, Status.TIMESTAMP_MISMATCH, timestamp=timestamp_of(clock))]
        if update.group is not None and not update.identifier:
            return self._update_group(update, update.timestamp, now)
        refusal = self._refusal(update, update.timestamp)
        if refusal is not None:
            return [self._answer(update, refusal)]
        binding = self._bindings.get(update.identifier)
        self._timestamps[update.identifier] = update.timestamp
        if update.lifetime < LIFETIME_UNIT:
            return self._deregister(update, binding, now)
        return self._register(update, binding, now)

    def gateway_restarted(self, gateway: str, seen: float, now: float) -> list[Action]:
        """Remove what a gateway registered before it was last `seen` with its former restart counter (RFC 5847)."""
        before = [binding for binding in self._at(gateway) if binding.accepted <= seen]
        return [self._dying(binding, "gateway-restarted", now) for binding in before]

    def gateway_revoked(self, gateway: str, timestamp: int | None, now: float) -> list[Action]:
        """Remove what a gateway had registered when it revoked everything (RFC 5846, flag G).

        `timestamp` is the message's: without one, all that it has registered.
        """
        stamps = self._timestamps
        before = [b for b in self._at(gateway) if timestamp is None or stamps[b.node.identifier] < timestamp]
        return [self._dying(binding, "revoked", now) for binding in before]

    def install_failed(self, identifier: str, now: float) -> list[Action]:
        """Withdraw a binding that the kernel did not accept."""
        return [self._dying(self._bindings[identifier], "failed", now)]

    def removed(self, identifier: str, now: float) -> None:
        """Note that a binding has been removed from the kernel."""
        binding = self._bindings.get(identifier)
        if binding is not None and binding.state is State.DYING:
            self._bindings.remove(identifier)
        elif binding is not None and binding.state is State.DEREGISTERED:
            self._bindings.put(identifier, replace(binding, due=now + MIN_DELAY_BEFORE_DELETE))

    def tick(self, now: float) -> list[Action]:
        """Handle what is due: expired lifetimes, entries that were kept, removals to try again."""
        actions: list[Action] = []
        for binding in self._bindings.due(now):
            reason = {State.REGISTERED: "expired", State.DEREGISTERED: "deregistered", State.DYING: "retry"}
            actions.append(self._dying(binding, reason[binding.state], now))
        return actions

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which `tick` has something to do, None for never."""
        return self._bindings.next_due()

    def _at(self, gateway: str) -> list[Binding]:
        """Return the entries of a gateway that are not about to leave the kernel."""
        return [each for each in self._bindings if each.gateway == gateway and each.state is not State.DYING]

    def _refusal(self, update: ProxyBindingUpdate, timestamp: int) -> Status | None:
        """Return why an update within the window is refused (RFC 5213, section 5.3.1)."""
        if not update.identifier:
            return Status.MISSING_IDENTIFIER
        if not update.prefixes:
            return Status.MISSING_HOME_NETWORK_PREFIX
        if update.handoff is None:
            return Status.MISSING_HANDOFF_INDICATOR
        if update.access_technology is None:
            return Status.MISSING_ACCESS_TECHNOLOGY_TYPE
        node = self._policy.mobile_nodes.get(update.identifier)
        if node is None or update.link_layer not in (b"", node.link_layer):
            return Status.NOT_LMA_FOR_THIS_MOBILE_NODE
        if timestamp <= self._timestamps.get(update.identifier, 0):
            return Status.TIMESTAMP_LOWER_THAN_PREVIOUS
        asked = set(update.prefixes) - {ANY_PREFIX}
        if not asked <= set(node.prefixes):
            return Status.NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX
        if asked and asked != set(node.prefixes):
            return Status.PREFIX_SET_DOES_NOT_MATCH
        return None

    def _register(self, update: ProxyBindingUpdate, previous: Binding | None, now: float) -> list[Action]:
        node = self._policy.mobile_nodes[update.identifier]
        lifetime = self._granted(update)
        registrations = 1 if previous is None else previous.registrations + 1
        due, group = now + lifetime, update.group
        binding = Binding(node, update.source, State.REGISTERED, lifetime, due, now, registrations, group)
        self._bindings.put(update.identifier, binding)
        moved = previous is not None and previous.gateway != update.source
        served = previous is not None and previous.state is State.REGISTERED
        actions: list[Action] = [Install(binding, previous if served else None)]
        actions.append(self._answer(update, Status.ACCEPTED, lifetime))
        if moved and previous is not None:
            actions.append(Revoke(binding, previous.gateway))
        return actions

    def _update_group(self, update: ProxyBindingUpdate, timestamp: int, now: float) -> list[Action]:
        """Extend or end what a gateway has registered in a group (RFC 6602, section 5.2).

        The time of the last registration stays: it tells what a gateway that restarts had registered before.
        """
        members = [
            each
            for each in self._bindings
            if (each.gateway, each.group, each.state) == (update.source, update.group, State.REGISTERED)
        ]
        if not members:
            return [self._answer(update, Status.INVALID_MOBILE_NODE_GROUP_IDENTIFIER)]
        earlier = [each for each in members if self._timestamps[each.node.identifier] < timestamp]
        if update.lifetime < LIFETIME_UNIT:
            ended: list[Action] = [self._kept(each, now) for each in earlier]
            return [*ended, self._answer(update, Status.ACCEPTED)]
        lifetime = self._granted(update)
        for each in earlier:
            again = each.registrations + 1
            extended = replace(each, lifetime=lifetime, due=now + lifetime, registrations=again)
            self._bindings.put(each.node.identifier, extended)
        return [self._answer(update, Status.ACCEPTED, lifetime)]

    def _granted(self, update: ProxyBindingUpdate) -> int:
        return min(update.lifetime, self._policy.max_lifetime) // LIFETIME_UNIT * LIFETIME_UNIT

    def _deregister(self, update: ProxyBindingUpdate, binding: Binding | None, now: float) -> list[Action]:
        """Deregister (RFC 5213, section 5.3.5): only the serving gateway may; to others, it is done already."""
        answer = self._answer(update, Status.ACCEPTED)
        if binding is None or binding.gateway != update.source or binding.state is not State.REGISTERED:
            return [answer]
        return [self._kept(binding, now), answer]

    def _kept(self, binding: Binding, now: float) -> Remove:
        kept = replace(binding, state=State.DEREGISTERED, due=now + RETRY_SECONDS)
        self._bindings.put(binding.node.identifier, kept)
        return Remove(kept, "deregistered")

    def _dying(self, binding: Binding, reason: str, now: float) -> Remove:
        dying = replace(binding, state=State.DYING, due=now + RETRY_SECONDS)
        self._bindings.put(binding.node.identifier, dying)
        return Remove(dying, reason)

    def _answer(
        self, update: ProxyBindingUpdate, status: Status, lifetime: int = 0, timestamp: int | None = None
    ) -> Acknowledge:
        node = self._policy.mobile_nodes.get(update.identifier)
        accepted = status is Status.ACCEPTED and node is not None
        link_local = update.link_local
        if accepted and link_local == ANY_ADDRESS:
            link_local = self._policy.link_local
        return Acknowledge(
            update,
            status,
            lifetime,
            node.prefixes if accepted and node is not None else update.prefixes,
            link_local,
            update.timestamp if timestamp is None else timestamp,
        )
