# SPDX-License-Identifier: Apache-2.0
"""Repeat revocations until they are acknowledged (RFC 5846). Pure: time is an argument."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
    """Those that are not acknowledged."""

    def __init__(self, anchor: str) -> None:
        self._anchor = anchor
        self._sequence = 0
        self._pending: dict[int, _Pending] = {}

    def revoke(self, gateway: str, identifier: str, prefixes: tuple[str, ...], trigger: int, now: float) -> None:
        """Revoke a mobile node's binding at a gateway; `tick` returns the messages."""
        self._sequence = self._sequence + 1 & 0xFFFF
        message = Revocation(self._anchor, gateway, self._sequence, trigger, identifier, prefixes)
        self._pending[self._sequence] = _Pending(message, now)

    def withdraw(self, gateway: str, identifier: str) -> None:
        """Stop revoking a binding: the mobile node is back at this gateway."""
        for sequence, pending in list(self._pending.items()):
            if (pending.message.destination, pending.message.identifier) == (gateway, identifier):
                del self._pending[sequence]

    def acknowledged(self, message: RevocationAcknowledgement) -> bool:
        """Take an acknowledgement; return whether it was awaited."""
        pending = self._pending.get(message.sequence)
        if pending is None or pending.message.destination != message.source:
            return False
        del self._pending[message.sequence]
        return True

    def tick(self, now: float, clock: float) -> Iterator[Revocation]:
        """Yield the messages to send now, stamped with `clock` (seconds since 1970)."""
        for sequence, pending in list(self._pending.items()):
            if pending.due > now:
                continue
            pending.attempts += 1
            pending.due = now + RETRY_SECONDS
            if pending.attempts == ATTEMPTS:
                del self._pending[sequence]
            yield replace(pending.message, timestamp=timestamp_of(clock))

    def next_due(self) -> Iterator[float]:
        """Yield when messages are due."""
        return (pending.due for pending in self._pending.values())
