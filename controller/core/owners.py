# SPDX-License-Identifier: Apache-2.0
"""Tell which of several pods owns a home agent address: the one of the highest revision that a bridge has told of.

etcd gives each ownership a revision, and later ones higher ones. So a bridge that follows a former owner is known as
such, however late it speaks.
"""

from typing import NamedTuple

from hoaflow.addresses import format_address
from hoaflow.errors import HoaflowError


class Owner(NamedTuple):
    """The pod that owns a home agent address, by its name, and etcd's revision when it became the owner."""

    name: str
    revision: int

    def __str__(self) -> str:
        return f"pod {self.name} (revision {self.revision})"


class AnotherOwner(HoaflowError):
    """A bridge follows another pod than the owner of the home agent address that has been announced here."""

    def __init__(self, home_agent: bytes, owner: Owner | None, got: Owner | None) -> None:
        expected = f"is owned by {owner}: expected that owner" if owner else "is announced without owner: expected none"
        super().__init__(
            f"home agent {format_address(home_agent)} {expected}, or the announcement of a newer one,"
            f" got {got or 'none'}"
        )


def check_announcement(home_agent: bytes, owner: Owner | None, got: Owner | None, lease_holds: bool) -> None:
    """Raise AnotherOwner unless an announcement is of the owner, or of one that may follow it.

    Without owner it may follow once the owner's lease has ended, as where a home agent has other pods no longer.
    """
    if owner is None or got == owner:
        return
    if lease_holds if got is None else got.revision <= owner.revision:
        raise AnotherOwner(home_agent, owner, got)


def check_report(home_agent: bytes, owner: Owner | None, got: Owner | None) -> None:
    """Raise AnotherOwner for a report of another owner than the one announced. One that names none passes."""
    if got is not None and got != owner:
        raise AnotherOwner(home_agent, owner, got)
