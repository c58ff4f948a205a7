# SPDX-License-Identifier: Apache-2.0
"""Notice when bindings become active, and report it."""

from collections.abc import Iterable

from controller.core.activation import Activations, ActivationTime
from controller.core.binding_states import BindingStates
from controller.core.bindings import BindingTable
from controller.core.events import Event
from controller.core.flow_keys import uplink_source
from controller.core.subject_queue import Subject
from hoaflow.addresses import Prefix


class ActivationEvents:
    """Checks bindings that may have become active, and adds an event for each that has."""

    def __init__(
        self, bindings: BindingTable, states: BindingStates, activations: Activations, events: list[Event]
    ) -> None:
        self._bindings = bindings
        self._states = states
        self._activations = activations
        self._events = events
        self._took: list[ActivationTime] = []

    def take_times(self) -> list[ActivationTime]:
        """Take off and return how long the bindings took that have become active since the last call."""
        took, self._took = self._took, []
        return took

    def check(self, home_address: Prefix, now: float, sent: float | None) -> None:
        """Report a binding if it has become active; ``sent`` is when the flows were sent that were confirmed now.

        One that no router is asked for is not looked at again before one is: a million may have no traffic.
        """
        if home_address not in self._activations.unconfirmed:
            return
        if not self._states.is_carried(home_address):
            self._activations.forget(home_address)
            return
        binding = self._bindings.get(home_address)
        if binding is None or not self._states.is_active(binding, now):
            return
        confirmed = self._activations.confirm(home_address, sent, now)
        if confirmed.took is not None:
            self._took.append(confirmed.took)
        if confirmed.has_event:
            self._event(
                "binding-active",
                home_address=home_address,
                care_of_address=binding.care_of_address,
                sequence=binding.sequence,
            )

    def check_all(self, subjects: Iterable[Subject], now: float, sent: float | None) -> None:
        """Check the bindings of home addresses, and all that share one of the uplink flows."""
        for subject in subjects:
            if isinstance(subject, Prefix):
                self.check(subject, now, sent)
            elif (source := uplink_source(subject)) is not None:
                for home_address in list(self._bindings.behind(source)):
                    self.check(home_address, now, sent)

    def _event(self, name: str, **fields: object) -> None:
        self._events.append(Event(name, fields))
