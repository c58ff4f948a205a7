# SPDX-License-Identifier: Apache-2.0
"""A declared state of what lies around the flows: one list of objects, looked at, made, mended and removed as a whole.

Whoever makes something outside OpenFlow (links, addresses, routes, rules, neighbours, settings, nftables, tc, rows of
the OVS database) declares it as a list of objects, in the order in which they are made. Setting up, comparing, mending
and taking down are the functions below, so nothing can be set up that is not compared. `hoaflow.tunnel.objects` has the
kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.links import MissingInterface
from hoaflow.tunnel.look import Look, Missing
from hoaflow.tunnel.namespace import NamespaceError
from hoaflow.tunnel.objects import NamedNamespace

T = TypeVar("T")
Say = Callable[[str], None]
Steps = Generator[None, None, T]
"""Something that takes long, done step by step; it returns its result."""


class Unmendable(TunnelError):
    """Something is not as declared and could not be made so. The message says what, and what an operator can do."""


class Declared(Protocol):
    """One object: one fact that holds or does not.

    `str(object)` says the fact as done ("link tout up"): what setup tells.
    """

    def difference(self, look: Look) -> str | None:
        """Say what is there instead, in one clause; None when it is as declared. Changes nothing.

        Raises Missing when what it belongs to (a namespace, an interface) is not there, which is declared before it.
        """

    def make(self) -> None:
        """Make it as declared, whatever is there. Idempotent. Raises TunnelError."""

    def remove(self) -> bool | None:
        """Take it away; fine when it is not there, and when it goes with another object. Raises TunnelError.

        True where it was there; None where that is not looked at, as it goes with another object.
        """


@runtime_checkable
class Sliced(Protocol):
    """A declared object of many parts: where something else has to be done meanwhile, it is looked at in slices."""

    def slices(self, look: Look) -> Steps[str | None]:
        """Say the same as `difference`, with a pause every few milliseconds. What is there is read before the first."""


class Difference(NamedTuple):
    """An object that is not as declared, and what is there instead."""

    declared: Declared
    found: str


def compare(declaration: Sequence[Declared], look: Look | None = None) -> list[Difference]:
    """Return what is not as declared; what belongs to something that is missing is not counted beside it.

    Raises TunnelError when it cannot be looked at.
    """
    if look is None:
        with Look() as fresh:
            return compare(declaration, fresh)
    return at_once(compared(declaration, look))


def compared(declaration: Sequence[Declared], look: Look) -> Steps[list[Difference]]:
    """`compare` with pauses: after each object, and within those that are `Sliced`."""
    found: list[Difference] = []
    unplaced: list[Difference] = []
    for declared in declaration:
        try:
            if isinstance(declared, Sliced):
                difference = yield from declared.slices(look)
            else:
                difference = declared.difference(look)
        except (Missing, NamespaceError) as error:
            unplaced.append(Difference(declared, str(error)))
            continue
        if difference is not None:
            found.append(Difference(declared, difference))
        yield
    return found or unplaced[:1]


def at_once(steps: Steps[T]) -> T:
    """Take all steps without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def mend(declaration: Sequence[Declared]) -> list[Difference]:
    """Make what is not as declared; returns what was found. Raises Unmendable when something differs afterwards."""
    with Look() as look:
        found = compare(declaration, look)
        if not found:
            return []
        try:
            for declared in declaration:
                _make_if_different(declared, look)
        except (TunnelError, OSError) as error:
            raise Unmendable(f"{in_words(found)}; not mended: {error}") from error
        look.forget()
        # What was right before has been changed meanwhile: that is found the next time.
        made = [id(difference.declared) for difference in found]
        if left := [difference for difference in compare(declaration, look) if id(difference.declared) in made]:
            raise Unmendable(in_words(left))
    return found


def set_up(declaration: Sequence[Declared], say: Say) -> int:
    """Make what is not as declared and say so; returns how many objects that were. Undone when it fails.

    Raises TunnelError. Undone is what was missing; what was there and has been changed stays changed.
    """
    made: list[Declared] = []
    with Look() as look:
        try:
            for declared in declaration:
                if _make_if_different(declared, look):
                    say(str(declared))
                    made.append(declared)
        except BaseException:
            for declared in reversed(made):
                try:
                    declared.remove()
                    say(f"undone: {declared}")
                except Exception as failure:  # undo the rest all the same; the operator must know what is left
                    say(f"could not undo: {declared}: {failure}")
            raise
    return len(made)


def tear_down(declaration: Sequence[Declared], say: Say) -> int:
    """Remove everything that is declared, the last first, whatever state it is in; returns how many were there.

    What is within a namespace of the declaration goes with it. What cannot be removed keeps nothing else from it.
    Raises TunnelError, which says what is left.
    """
    removed, left = 0, []
    namespaces = [declared.name for declared in declaration if isinstance(declared, NamedNamespace)]
    for declared in reversed(declaration):
        if getattr(declared, "namespace", None) in namespaces:
            continue
        try:
            if declared.remove():
                say(f"removed: {declared}")
                removed += 1
        except (Missing, NamespaceError, MissingInterface):
            continue  # so is what belongs to it
        except (TunnelError, OSError) as error:
            left.append(f"{declared}: {error}")
    if left:
        raise TunnelError(f"not removed: {'; '.join(left)}")
    return removed


def in_words(found: Sequence[Difference]) -> str:
    """Return differences as one line."""
    return "; ".join(difference.found for difference in found)


def _make_if_different(declared: Declared, look: Look) -> bool:
    try:
        if declared.difference(look) is None:
            return False
    except (Missing, NamespaceError):
        pass  # said, with the reason, by `make`
    declared.make()
    look.forget()
    return True
