# SPDX-License-Identifier: Apache-2.0
"""Keep what an access gateway knows of its mobile nodes (RFC 5213, section 6: the Binding Update List).

Pure: time is an argument, and every method returns the actions to carry out.

A mobile node that leaves is not deregistered at once: its packets are held for `hold` seconds, in which either it comes
back, or the anchor tells by a revocation (RFC 5846) that it is elsewhere. Packets held and those still to come in the
next `hold` seconds then go there by ordinary routing, which leads to the anchor. Only after that it is deregistered.

All registrations ask for membership in one group (RFC 6602). Where the anchor grants it, one update refreshes all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from hoaflow.mobility.entries import Entries
from hoaflow.pmipv6.messages import Handoff, ProxyBindingAcknowledgement, Status
from hoaflow.pmipv6.mobile_nodes import MobileNode

FIRST_RETRY, LONGEST_RETRY = 1.0, 32.0
"""Seconds (RFC 6275, section 12: INITIAL_BINDACK_TIMEOUT, MAX_BINDACK_TIMEOUT)."""
DEREGISTRATIONS = 3
"""Attempts to deregister; then the lifetime ends the binding, unless it is in a group, which is refreshed."""
GROUP_ATTEMPTS = 3
"""Attempts to refresh the group; then mobile nodes are registered one by one."""


class State(StrEnum):
    """What a mobile node's packets get: held until it is registered; served; held; forwarded; nothing."""

    REGISTERING = "registering"
    SERVED = "served"
    HOLDING = "holding"
    FORWARDING = "forwarding"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A mobile node on an access link, or one that was. `link_local` is its link-local address, if it is known.

    `due`: when there is something to do next. `expires`: when the binding's lifetime ends. `stamp`: the timestamp of
    the update that is under way, None once it is answered. `revoked`: a revocation has come meanwhile. `grouped`: the
    anchor has it in the group.
    """

    node: MobileNode
    interface: str
    link_local: str | None
    state: State
    due: float
    sequence: int = 0
    attempts: int = 0
    lifetime: int = 0
    expires: float = 0.0
    stamp: int | None = None
    revoked: bool = False
    grouped: bool = False


@dataclass(frozen=True, slots=True)
class Register:
    """Send a Proxy Binding Update; without a lifetime it deregisters."""

    attachment: Attachment
    lifetime: int
    handoff: Handoff


@dataclass(frozen=True, slots=True)
class Refresh:
    """Send the update that refreshes the registrations of all in the group."""

    sequence: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Serve:
    """Route the node's prefixes to its link, and deliver what was held. Advertise them there."""

    attachment: Attachment


@dataclass(frozen=True, slots=True)
class Advertise:
    """Advertise the prefixes to the mobile node once more."""

    attachment: Attachment


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold the node's packets from now on."""

    attachment: Attachment


@dataclass(frozen=True, slots=True)
class Forward:
    """Send what was held, and what still comes, by ordinary routing."""

    attachment: Attachment


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop what is held."""

    attachment: Attachment
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Tell the operator that the anchor refused a registration. It is tried again."""

    attachment: Attachment
    acknowledgement: ProxyBindingAcknowledgement


Action = Register | Refresh | Serve | Advertise | Hold | Forward | Forget | Refused


@dataclass(slots=True)
class GroupRefresh:
    """The update that refreshes the group: `attempts` without an answer, the last of them with `sequence` and `stamp`.

    `due`: when to try again.
    """

    sequence: int = 0
    stamp: int | None = None
    attempts: int = 0
    due: float = 0.0


class Attachments:
    """The attachments, keyed by the mobile nodes' identifiers. Methods return actions in the order in which to do them.

    `lifetime` is the one to ask for, `hold` the time that packets are held, both in seconds. `group` identifies the
    group: another one after a restart, so that what was registered before is not refreshed.
    """

    def __init__(self, lifetime: int, hold: float, group: int) -> None:
        self._lifetime, self._hold, self.group = lifetime, hold, group
        self._attachments: Entries[Attachment] = Entries()
        self._sequence = 0
        self._refresh = GroupRefresh()

    def __len__(self) -> int:
        return len(self._attachments)

    def __iter__(self) -> Iterator[Attachment]:
        return iter(self._attachments)

    def get(self, identifier: str) -> Attachment | None:
        """Return a mobile node's attachment."""
        return self._attachments.get(identifier)

    def attached(
        self, node: MobileNode, interface: str, link_local: str | None, now: float, solicited: bool = True
    ) -> list[Action]:
        """Note that a mobile node is on an access link: it has `solicited` a router, or is a neighbour there."""
        known = self._attachments.get(node.identifier)
        if known is None or known.state in (State.FORWARDING, State.LEAVING):
            fresh = Attachment(node, interface, link_local, State.REGISTERING, now)
            return [*([] if known is None else [Hold(fresh)]), self._register(fresh, Handoff.UNKNOWN, now)]
        moved = replace(known, interface=interface, link_local=link_local or known.link_local)
        if known.state is State.REGISTERING:
            self._put(moved)
            return []
        if known.state is State.SERVED:
            self._put(moved)
            if interface != known.interface:
                return [Serve(moved)]
            return [Advertise(moved)] if solicited or moved != known else []
        if now >= known.expires:  # it left before it was registered, or too long ago
            return [self._register(replace(moved, state=State.REGISTERING, attempts=0), Handoff.UNKNOWN, now)]
        served = self._put(replace(moved, state=State.SERVED, attempts=0))
        return [Serve(served), self._register(served, Handoff.NOT_CHANGED, now)]

    def detached(self, identifier: str, now: float) -> list[Action]:
        """Note that a mobile node has left its access link."""
        known = self._attachments.get(identifier)
        if known is None or known.state not in (State.SERVED, State.REGISTERING):
            return []
        holding = replace(known, state=State.HOLDING, due=now + self._hold)
        return [Hold(self._put(holding))]

    def sent(self, identifier: str, stamp: int) -> None:
        """Note the timestamp with which an update has been sent."""
        self._put(replace(self._attachments[identifier], stamp=stamp))

    def refresh_sent(self, stamp: int) -> None:
        """Note the timestamp with which the group's update has been sent."""
        self._refresh.stamp = stamp

    def acknowledged(self, message: ProxyBindingAcknowledgement, now: float) -> list[Action]:
        """Take an acknowledgement; any but that of the last update is ignored.

        It has that one's timestamp, or it might be a recording of an earlier one; but the anchor's own, where it says
        that clocks differ (RFC 5213, section 5.5).
        """
        if not message.identifier:
            return self._refreshed(message, now)
        known = self._attachments.get(message.identifier)
        if known is None or message.sequence != known.sequence or not known.attempts:
            return []
        if message.status != Status.TIMESTAMP_MISMATCH:
            if message.timestamp != known.stamp:
                return []
            known = self._put(replace(known, stamp=None))
        if known.state is State.LEAVING:
            return [self._forget(known, "deregistered")] if message.accepted else []
        if known.state not in (State.SERVED, State.REGISTERING):
            return []
        granted = min(message.lifetime, self._lifetime)
        if not message.accepted or not granted or set(message.prefixes) != set(known.node.prefixes):
            return [Refused(known, message), *(self._forward(known, now) if known.revoked else [])]
        served = self._put(
            replace(
                known,
                state=State.SERVED,
                lifetime=granted,
                expires=now + granted,
                due=now + granted / 2,
                attempts=0,
                revoked=False,
                grouped=message.group == self.group,
            )
        )
        if served.grouped:
            self._refresh.attempts = 0
        return [Advertise(served) if known.state is State.SERVED else Serve(served)]

    def revoked(self, identifier: str, now: float) -> list[Action]:
        """Note that the anchor has registered a mobile node elsewhere; no action if it was not here.

        A revocation may cross an update with which the mobile node comes back: the answer to that tells.
        """
        known = self._attachments.get(identifier)
        if known is None or known.state not in (State.SERVED, State.HOLDING):
            return []
        if known.state is State.SERVED and known.stamp is not None:
            self._put(replace(known, revoked=True))
            return []
        return self._forward(known, now)

    def anchor_restarted(self, now: float) -> list[Action]:
        """Register all mobile nodes anew, as the anchor has forgotten them."""
        here = [each for each in self._attachments if each.state in (State.SERVED, State.REGISTERING)]
        return [self._register(replace(each, attempts=0), Handoff.NOT_CHANGED, now) for each in here]

    def tick(self, now: float) -> list[Action]:
        """Handle what is due: updates to repeat or refresh, lifetimes and holds that end."""
        actions: list[Action] = []
        for each in self._attachments.due(now):
            if not self._in_refresh(each, now):
                actions += self._due(each, now)
            elif now < each.expires - each.lifetime / 2:  # it has just been refreshed
                actions.append(Advertise(self._put(replace(each, due=each.expires - each.lifetime / 2))))
            elif self._refresh.attempts < GROUP_ATTEMPTS or now < self._refresh.due:
                actions += self._refresh_group(now)
                self._put(replace(each, due=self._refresh.due))
            else:
                actions += self._due(each, now)
        return actions

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which `tick` has something to do, None for never."""
        return self._attachments.next_due()

    def _due(self, each: Attachment, now: float) -> list[Action]:
        if each.state is State.REGISTERING:
            return [self._register(each, Handoff.UNKNOWN, now)]
        if each.state is State.SERVED:
            if now < each.expires:
                return [self._register(each, Handoff.NOT_CHANGED, now)]
            expired = replace(each, state=State.REGISTERING, attempts=0)
            return [Hold(expired), self._register(expired, Handoff.UNKNOWN, now)]
        if each.state is State.FORWARDING:
            return [self._forget(each, "moved")]
        if each.state is State.HOLDING:
            return [Forget(each, "gone"), self._register(replace(each, state=State.LEAVING, attempts=0), None, now)]
        if each.attempts >= DEREGISTRATIONS and not each.grouped:
            return [self._forget(each, "not deregistered")]
        return [self._register(each, None, now)]

    @staticmethod
    def _in_refresh(each: Attachment, now: float) -> bool:
        """Tell whether the group's update is for this one: it is served, and has no update of its own under way."""
        return each.grouped and each.state is State.SERVED and not each.attempts and now < each.expires

    def _refresh_group(self, now: float) -> list[Action]:
        """Send the group's update, unless one was sent that may still be answered."""
        refresh = self._refresh
        if now < refresh.due:
            return []
        self._sequence = self._sequence + 1 & 0xFFFF
        refresh.sequence, refresh.attempts, refresh.due = self._sequence, refresh.attempts + 1, now + FIRST_RETRY
        return [Refresh(refresh.sequence, self._lifetime)]

    def _refreshed(self, message: ProxyBindingAcknowledgement, now: float) -> list[Action]:
        """Take the answer to the group's update. `tick` advertises, or registers one by one if it was refused."""
        refresh = self._refresh
        if not refresh.attempts or (message.group, message.sequence) != (self.group, refresh.sequence):
            return []
        if message.status != Status.TIMESTAMP_MISMATCH and message.timestamp != refresh.stamp:
            return []
        refresh.attempts = 0
        granted = min(message.lifetime, self._lifetime)
        for each in self._attachments:
            if not self._in_refresh(each, now):
                continue
            if message.accepted and granted:
                self._put(replace(each, lifetime=granted, expires=now + granted, due=now))
            else:
                self._put(replace(each, grouped=False, due=now))
        return []

    def _register(self, attachment: Attachment, handoff: Handoff | None, now: float) -> Register:
        """Send an update; without a handoff indicator, it deregisters."""
        self._sequence = self._sequence + 1 & 0xFFFF
        wait = min(LONGEST_RETRY, FIRST_RETRY * 2**attachment.attempts)
        sent = self._put(replace(attachment, sequence=self._sequence, attempts=attachment.attempts + 1, due=now + wait))
        if handoff is None:
            return Register(sent, 0, Handoff.UNKNOWN)
        return Register(sent, self._lifetime, handoff)

    def _forward(self, attachment: Attachment, now: float) -> list[Action]:
        return [Forward(self._put(replace(attachment, state=State.FORWARDING, due=now + self._hold)))]

    def _forget(self, attachment: Attachment, reason: str) -> Forget:
        self._attachments.remove(attachment.node.identifier)
        return Forget(attachment, reason)

    def _put(self, attachment: Attachment) -> Attachment:
        return self._attachments.put(attachment.node.identifier, attachment)
