# SPDX-License-Identifier: Apache-2.0
"""Repeat revocations until they are acknowledged (RFC 5846). Pure: time is an argument."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hoaflow.mobility.entries import Entries
from hoaflow.pmipv6.messages import Revocation, RevocationAcknowledgement, timestamp_of

RETRY_SECONDS = 1.0
"""Seconds to the next attempt (InitMINDelayBRIs)."""
ATTEMPTS = 3
"""If the gateway is silent, it will find out by its own registration that it no longer serves the mobile node."""


@dataclass(slots=True)
class _Pending:
    message: Revocation
    due: float
    attempts: int = 0


class Revocations:
    """Those that are not acknowledged: one for each gateway and mobile node at most.

    Thousands of mobile nodes may leave a gateway that is dead, so none is searched for.
    """

    def __init__(self, anchor: str) -> None:
        self._anchor = anchor
        self._sequence = 0
        self._pending: Entries[_Pending] = Entries()
        self._keys: dict[int, str] = {}  # by sequence number

    def revoke(self, gateway: str, identifier: str, prefixes: tuple[str, ...], trigger: int, now: float) -> None:
        """Revoke a mobile node's binding at a gateway; `tick` returns the messages."""
        self.withdraw(gateway, identifier)
        self._sequence = self._sequence + 1 & 0xFFFF
        message = Revocation(self._anchor, gateway, self._sequence, trigger, identifier, prefixes)
        key = self._keys[self._sequence] = _key(gateway, identifier)
        self._pending.put(key, _Pending(message, now))

    def withdraw(self, gateway: str, identifier: str) -> None:
        """Stop revoking a binding: the mobile node is back at this gateway."""
        if (pending := self._pending.get(_key(gateway, identifier))) is not None:
            self._end(pending)

    def acknowledged(self, message: RevocationAcknowledgement) -> bool:
        """Take an acknowledgement; return whether it was awaited."""
        pending = self._pending.get(self._keys.get(message.sequence, ""))
        if pending is None or pending.message.destination != message.source:
            return False
        self._end(pending)
        return True

    def tick(self, now: float, clock: float) -> Iterator[Revocation]:
        """Yield the messages to send now, stamped with `clock` (seconds since 1970)."""
        for pending in self._pending.due(now):
            pending.attempts += 1
            pending.due = now + RETRY_SECONDS
            if pending.attempts == ATTEMPTS:
                self._end(pending)
            else:
                self._pending.put(_key(pending.message.destination, pending.message.identifier), pending)
            yield replace(pending.message, timestamp=timestamp_of(clock))

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which a message is due, None for never."""
        return self._pending.next_due()

    def _end(self, pending: _Pending) -> None:
        message = pending.message
        key = _key(message.destination, message.identifier)
        self._pending.remove(key)
        if self._keys.get(message.sequence) == key:
            del self._keys[message.sequence]


def _key(gateway: str, identifier: str) -> str:
    return f"{gateway} {identifier}"
