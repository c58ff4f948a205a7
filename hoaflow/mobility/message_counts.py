# SPDX-License-Identifier: Apache-2.0
"""Count messages of a main loop, for metrics and logs."""

from collections import Counter
from dataclasses import dataclass, field

from hoaflow.logs import Log

LOG = Log("mobility")


@dataclass(slots=True)
class MessageCounts:
    """Counts of the main loop: messages received, answers sent by status, and packets dropped by reason."""

    binding_updates: int = 0
    acknowledgements: Counter[int] = field(default_factory=Counter)
    binding_errors: Counter[int] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, detail: str, *arguments: object) -> None:
        """Count a packet that is ignored or not answered, and log it at debug level."""
        self.dropped[reason] += 1
        LOG.debug("packet-dropped", reason=reason, detail=detail % arguments)
