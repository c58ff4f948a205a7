# SPDX-License-Identifier: Apache-2.0
"""Apply updates of bindings: to the table, to the routers that follow it, to history and events."""

import math
from collections import deque
from collections.abc import Iterable, Sequence

from controller.core import reasons
from controller.core.activation import Activations
from controller.core.admission import check_binding, check_nesting, is_deregistration
from controller.core.bindings import Binding, Change, StaleNumber, may_follow
from controller.core.events import Event
from controller.core.last_numbers import LastNumbers
from controller.core.protocols import IN_OTHER_TUNNELS
from controller.core.registrations import Registrations
from controller.core.routers import Routers
from controller.core.update_history import RecordedUpdate, Result, Source, UpdateHistory
from controller.core.urgency import Urgency
from hoaflow.addresses import Prefix
from hoaflow.deadlines import earliest

# How many bindings are handled in one go, while others wait.
BINDINGS_AT_ONCE = 500


class Updates:
    """Puts bindings into the registrations and removes them, and has all routers follow."""

    def __init__(self, registrations: Registrations, routers: Routers, events: list[Event]) -> None:
        self.registrations = registrations
        self.history = UpdateHistory()
        self.activations = Activations()
        self._bindings = registrations.bindings
        self._withheld = registrations.withheld
        self._covered = registrations.covered
        self._refused = registrations.refused
        self._tunnel_list = registrations.tunnel_list
        self._flap_damping = registrations.flap_damping
        self._routers = routers
        self._events = events
        self._last_numbers = LastNumbers()
        # Bindings to remove, and why, unless they are updated before.
        self._to_remove: deque[tuple[Binding, str]] = deque()

    def check(self, binding: Binding, ends: bool) -> None:
        """Raise Refused for a binding that may not be offloaded; ``ends``: it is a deregistration.

        The addresses of a refresh are not checked: those of the binding held were when it came, and whatever home agent
        has been announced since has had it removed if it may not stay.
        """
        held = self._bindings.get(binding.home_address)
        if held is None or self._to_remove or not held.same_path(binding):
            check_binding(binding, ends, self.registrations.home_agents)
        if binding.withheld is None and not ends:
            check_nesting(binding, self._bindings)

    def check_order(self, binding: Binding, ends: bool, now: float) -> None:
        """Raise StaleUpdate if an update is older than the binding held, or just removed; ``ends``: see ``check``."""
        for table in (self._bindings, self._withheld, self._covered):
            if len(table):
                table.check_order(binding, ends)
        last = None if ends else self._last_numbers.newer(binding, now)
        if last is not None:
            raise StaleNumber(binding, last, gone=True)

    def refresh(self, binding: Binding, source: Source, now: float, ordered: bool = True) -> Change | None:
        """Take in an update that moves nobody, as most do; None if it may do more, or may have to be refused.

        ``ordered``: whether it has to be newer than the binding held.
        """
        held = self._bindings.get(binding.home_address)
        if held is None or self._to_remove or binding.lifetime == 0 or not held.same_path(binding):
            return None
        if ordered and not may_follow(held, binding.number, binding.care_of_address):
            return None
        if self._bindings.covers(binding.care_of_address):
            return None  # where its packets go from there is to be looked at
        change = self._bindings.refresh(held, binding)
        if change is Change.REFRESHED:
            self._note_taken(binding, source, "refreshed", now)
        return change

    def _note_taken(self, binding: Binding, source: Source, result: Result, now: float) -> None:
        """Forget that a binding had gone, or was refused, and record its update."""
        self._last_numbers.forget(binding)
        if self._refused:
            self.recheck_path(self._refused.remove(binding))
        self._record(binding, now, source, result)

    def put(self, binding: Binding, source: Source, now: float, urgency: Urgency) -> Change:
        """Hold a binding in place of the one held so far.

        Of two protocols' bindings of a home address, the one of the higher rank takes the packets, and the other waits.
        """
        home_address = binding.home_address
        before = self._bindings.get(home_address)
        other = before or self._withheld.get(home_address)
        if other is not None and other.protocol is not binding.protocol:
            if other.rules.rank > binding.rules.rank:
                return self._cover(binding, source, now)
            self._covered.put(other)
            self._follow_path(other.care_of_address)
        if binding.withheld is not None:
            return self._withhold(binding, source, now, urgency)
        if before is None and other is not None:
            self.recheck_path(self._withheld.remove(home_address))
        change = self._bindings.put(binding)
        held = binding if change is Change.ADDED else self._bindings.get(home_address)
        if change is Change.UNCHANGED or held is None:
            return change
        self._note_taken(held, source, change.value, now)
        if change is Change.REFRESHED:
            return change  # flows do not depend on a binding's end
        if not home_address.is_host:
            self._note_hole(held)
        self._tunnel_list.publish(held, before, now)
        if source == "post":
            self._note_change(held, now)
        self._follow(held, () if before is None else (before,), urgency)
        if self._routers.any_carrying(home_address):
            self.activations.report(home_address, now, urgency)
        else:
            self.activations.forget(home_address)
        if urgency.has_event:
            self.event(
                f"binding-{change.value}",
                home_address=home_address,
                care_of_address=held.care_of_address,
                home_agent=held.home_agent,
                sequence=held.sequence,
                lifetime=held.lifetime,
            )
        return change

    def drop(
        self,
        held: Binding,
        now: float,
        reason: str,
        source: Source,
        urgency: Urgency = Urgency.ROUTINE,
        update: Binding | None = None,
    ) -> None:
        """Remove a binding that is held; ``update``: the update that ends it, None if none does."""
        if self.registrations.is_covered(held):
            self.recheck_path(self._covered.remove(held.home_address))
            self._record_removal(held, now, reason, source, urgency, update)
            return
        if held.withheld is not None:
            self.recheck_path(self._withheld.remove(held.home_address))
            self._record_removal(held, now, reason, source, urgency, update)
        else:
            self._bindings.remove(held.home_address)
            self._withdraw(held, now, reason, source, urgency, update)
        self._uncover(held.home_address, now, urgency)

    def schedule_removal(self, bindings: Iterable[Binding], reason: str) -> None:
        """Remove bindings a few at a time, but none that is updated before: the reason may not hold for that."""
        self._to_remove.extend((binding, reason) for binding in bindings)

    @property
    def has_removals(self) -> bool:
        """Whether bindings are to be removed."""
        return bool(self._to_remove)

    def remember_number(self, update: Binding, held: Binding | None, now: float, refused: bool = False) -> None:
        """Remember the last number of a binding that has been reported to be gone, or refused."""
        known = update.number if update.number is not None else None if held is None else held.number
        self._last_numbers.remember(update.key, known, now, refused)

    def refuse(self, binding: Binding, reason: str, source: Source, now: float, urgency: Urgency) -> bool:
        """Refuse an update for what it says; tell whether that has ended the binding held.

        The home agent has accepted the update, so the mobile node has left the care-of address held here.
        """
        held = self.registrations.at(binding.key)
        ends = held is not None and held.home_agent == binding.home_agent
        if held is not None and ends:
            self.remember_number(binding, held, now, refused=True)
            self.drop(held, now, "update-refused", source, urgency)
        self.record_refusal(binding, reason, source, now)
        if is_deregistration(binding):
            self.recheck_path(self._refused.remove(binding))
        elif (home_agent := self.registrations.home_agents.get(binding.home_agent)) is not None:
            self.recheck_path(self._refused.put(binding, now, home_agent.covers(binding.home_address)))
            self.recheck_path(binding)
        return ends

    def recheck_path(self, binding: Binding | None) -> None:
        """Look again at home addresses that share a care-of address with a binding left to its home agent, or did.

        Thousands may, so not for one whose packets no flow of theirs would take.
        """
        if binding is None:
            return
        for covering in self._bindings.all_covering(binding.home_address):
            if self._note_hole(covering):
                self._follow(covering, (), Urgency.URGENT)
        if binding.withheld not in IN_OTHER_TUNNELS:
            self._follow_path(binding.care_of_address)

    def _note_hole(self, binding: Binding) -> bool:
        """Record whether a home address in a binding's prefix is left to its home agent; tell whether that is news."""
        home_address, holed = binding.home_address, self.registrations.holed
        if home_address.is_host:
            return False
        has_hole = self._withheld.any_within(home_address) or self._refused.any_within(home_address)
        if has_hole == (home_address in holed):
            return False
        (holed.add if has_hole else holed.discard)(home_address)
        return True

    def _follow_path(self, care_of_address: bytes) -> None:
        """Queue the flows of all home addresses at a care-of address, on all routers."""
        for home_address in list(self._bindings.behind(care_of_address)):
            held = self._bindings.get(home_address)
            if held is not None:
                self._follow(held, (), Urgency.URGENT)

    def record_refusal(self, binding: Binding, reason: str, source: Source, now: float) -> None:
        """Record a refused update; the binding held stays."""
        if self.registrations.home_agents.covering(binding.home_address) is not None:
            self._record(binding, now, source, "refused", reason)
        self.event("binding-refused", home_address=binding.home_address, home_agent=binding.home_agent, reason=reason)

    def tick(self, now: float) -> None:
        """End lifetimes and waits that are over. What is too much for one call is left for the next."""
        for binding in self._bindings.expired(now, most=BINDINGS_AT_ONCE):
            self._withdraw(binding, now, "expired", "expiry")
            self._uncover(binding.home_address, now)
        for binding in self._covered.expired(now, most=BINDINGS_AT_ONCE):
            self.recheck_path(binding)
            self._record_removal(binding, now, "expired", "expiry")
        for binding in self._withheld.expired(now, most=BINDINGS_AT_ONCE):
            self.recheck_path(binding)
            self._record_removal(binding, now, "expired", "expiry")
            self._uncover(binding.home_address, now)
        for binding in self._refused.ended(now, most=BINDINGS_AT_ONCE):
            self.recheck_path(binding)
        for _ in range(min(BINDINGS_AT_ONCE, len(self._to_remove))):
            binding, reason = self._to_remove.popleft()
            if self.registrations.at(binding.key) is binding:
                self.drop(binding, now, reason, "lease")
        for former in self._tunnel_list.expired_formers(now, most=BINDINGS_AT_ONCE):
            held = self._bindings.get(former.home_address)
            if held is not None:
                for router in self._routers.concerned(held):
                    router.leave_former(held, former)
        for home_address in self._flap_damping.released(now):
            held = self._bindings.get(home_address)
            if held is not None:
                self._follow(held, (), Urgency.URGENT)

    def next_deadline(self) -> float | None:
        """Return when ``tick`` has to be called next: in the past if overdue, None for not at all."""
        if self._to_remove:
            return -math.inf
        return earliest(
            self._bindings.next_expiry(),
            self._withheld.next_expiry(),
            self._covered.next_expiry(),
            self._tunnel_list.next_former_expiry(),
            self._flap_damping.next_release(),
            self._refused.next_end(),
        )

    def _cover(self, binding: Binding, source: Source, now: float) -> Change:
        """Let a binding wait beneath the one that outranks it."""
        self.recheck_path(self._covered.get(binding.home_address))
        change = self._covered.put(binding)
        self._last_numbers.forget(binding)
        if change.is_news:
            self._follow_path(binding.care_of_address)
            self._record(binding, now, source, "withheld", covered_by(self.registrations.get(binding.home_address)))
        return change

    def _uncover(self, home_address: Prefix, now: float, urgency: Urgency = Urgency.ROUTINE) -> None:
        """Let the binding take the packets that has waited for the end of the one that is gone."""
        binding = self._covered.remove(home_address)
        if binding is not None:
            self.put(binding, "uncovered", now, urgency)

    def _withhold(self, binding: Binding, source: Source, now: float, urgency: Urgency) -> Change:
        """Put a binding that its bridge leaves to the home agent, and remove it from those to be offloaded."""
        offloaded = self._bindings.get(binding.home_address)
        if offloaded is not None:
            self._bindings.remove(binding.home_address)
            self._withdraw(offloaded, now, "withheld", source, urgency, binding)
        known = self._withheld.get(binding.home_address)
        change = self._withheld.put(binding)
        if change.is_news:
            for each in (known, binding):
                self.recheck_path(each)
        self._last_numbers.forget(binding)
        if change in (Change.ADDED, Change.CHANGED):
            self._record(binding, now, source, "withheld", binding.withheld)
            if urgency.has_event:
                self.event(
                    "binding-withheld",
                    home_address=binding.home_address,
                    care_of_address=binding.care_of_address,
                    home_agent=binding.home_agent,
                    reason=binding.withheld,
                )
        return change if offloaded is None else Change.CHANGED

    def _withdraw(
        self,
        binding: Binding,
        now: float,
        reason: str,
        source: Source,
        urgency: Urgency = Urgency.ROUTINE,
        update: Binding | None = None,
    ) -> None:
        home_address = binding.home_address
        formers = [former.binding for former in self._tunnel_list.formers(home_address)]
        self.registrations.holed.discard(home_address)
        self._tunnel_list.withdraw(binding, now)
        self.activations.forget(home_address)
        if source == "post":
            self._note_change(binding, now)
        self._follow(binding, (binding, *formers), urgency)
        self._routers.forget_binding(home_address)
        self._record_removal(binding, now, reason, source, urgency, update)

    def _record_removal(
        self,
        binding: Binding,
        now: float,
        reason: str,
        source: Source,
        urgency: Urgency = Urgency.ROUTINE,
        update: Binding | None = None,
    ) -> None:
        self._record(update or binding, now, source, "removed", reason)
        if urgency.has_event:
            self.event("binding-removed", home_address=binding.home_address, reason=reason)

    def _note_change(self, binding: Binding, now: float) -> None:
        """Count a change of a binding, and suppress the binding if it changes too often."""
        if self._flap_damping.count_change(binding.home_address, now):
            self._follow(binding, (binding,), Urgency.URGENT)
            reason = reasons.suppressed(self._flap_damping.limit).text
            self.event("binding-held", home_address=binding.home_address, reason=reason)

    def _follow(self, binding: Binding, former: Sequence[Binding], urgency: Urgency) -> None:
        for router in self._routers.concerned(binding):
            router.follow(binding, former, urgency)

    def _record(self, binding: Binding, now: float, source: Source, result: Result, reason: str | None = None) -> None:
        if result == "refreshed" and not self.history.knows(binding.home_address):
            return  # most mobile nodes stay where they are
        update = RecordedUpdate(
            now, binding.care_of_address, binding.sequence, binding.lifetime, source, result, reason
        )
        self.history.record(binding.home_address, update)

    def event(self, name: str, **fields: object) -> None:
        """Add an event."""
        self._events.append(Event(name, fields))


def covered_by(binding: Binding | None) -> str:
    """Say that another protocol's binding of the same home address takes the packets."""
    protocol = "another protocol" if binding is None else binding.protocol.value
    return f"the {protocol} binding of the same home address takes the packets"
