# SPDX-License-Identifier: Apache-2.0
"""Set up, compare, mend and take down everything outside OpenFlow from one declaration.

A declaration is a list of objects (links, addresses, routes, rules, neighbours, settings, nftables, tc, rows of the OVS
database) in the order in which they are made. All functions below work on the same list, so nothing is set up that is
not compared. `hoaflow.tunnel.objects` has the kinds of objects.
"""

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from hoaflow.tunnel.actual_state import ActualState, MissingParent
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.links import MissingInterface
from hoaflow.tunnel.namespace import NamespaceError
from hoaflow.tunnel.objects import NamedNamespace

T = TypeVar("T")
Say = Callable[[str], None]
Steps = Generator[None, None, T]
"""A long task in steps: a generator that pauses between them and returns the result."""


class Unmendable(TunnelError):
    """Something is not as declared and could not be made so; the message says what, and what an operator can do."""


class Declared(Protocol):
    """An object of a declaration: one fact that holds or does not.

    `str(object)` states the fact as setup reports it ("link tout up").
    """

    def difference(self, actual: ActualState) -> str | None:
        """Return what is there instead, in one clause, or None if all is as declared. Changes nothing.

        Raises MissingParent when the namespace or interface that it belongs to, declared before it, is not there.
        """

    def make(self) -> None:
        """Make the fact hold, whatever is there. Idempotent. Raises TunnelError."""

    def remove(self) -> bool | None:
        """Remove the object; one that is not there is fine. Raises TunnelError.

        Returns whether it was there, or None for an object that goes together with another one.
        """


@runtime_checkable
class Sliced(Protocol):
    """A declared object of many parts, which can be compared in slices to leave time for other work."""

    def slices(self, actual: ActualState) -> Steps[str | None]:
        """Return what `difference` returns, with a pause every few milliseconds, after all has been read."""


class Difference(NamedTuple):
    """A declared object, and what was found in its place."""

    declared: Declared
    found: str


def compare(declaration: Sequence[Declared], actual: ActualState | None = None) -> list[Difference]:
    """Return what is not as declared. If something is missing, what belongs to it is left out.

    Raises TunnelError when the comparison fails.
    """
    if actual is None:
        with ActualState() as fresh:
            return compare(declaration, fresh)
    return at_once(compared(declaration, actual))


def compared(declaration: Sequence[Declared], actual: ActualState) -> Steps[list[Difference]]:
    """Compare with pauses: after each object, and within those that are `Sliced`."""
    found: list[Difference] = []
    unplaced: list[Difference] = []
    for declared in declaration:
        try:
            if isinstance(declared, Sliced):
                difference = yield from declared.slices(actual)
            else:
                difference = declared.difference(actual)
        except (MissingParent, NamespaceError) as error:
            unplaced.append(Difference(declared, str(error)))
            continue
        if difference is not None:
            found.append(Difference(declared, difference))
        yield
    return found or unplaced[:1]


def at_once(steps: Steps[T]) -> T:
    """Run all steps and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def mend(declaration: Sequence[Declared]) -> list[Difference]:
    """Mend what is not as declared and return what was found. Raises Unmendable when it still differs afterwards."""
    with ActualState() as actual:
        found = compare(declaration, actual)
        if not found:
            return []
        try:
            for declared in declaration:
                _make_if_different(declared, actual)
        except (TunnelError, OSError) as error:
            raise Unmendable(f"{in_words(found)}; not mended: {error}") from error
        actual.forget()
        # What differs only now has been changed meanwhile: the next comparison finds it.
        made = [id(difference.declared) for difference in found]
        if left := [difference for difference in compare(declaration, actual) if id(difference.declared) in made]:
            raise Unmendable(in_words(left))
    return found


def set_up(declaration: Sequence[Declared], say: Say) -> int:
    """Make what is not as declared, report each object by `say`, and return how many were made.

    If one fails, those that were made are removed again, last one first, and TunnelError is raised. A changed attribute
    of something that was there before stays changed.
    """
    made: list[Declared] = []
    with ActualState() as actual:
        try:
            for declared in declaration:
                if _make_if_different(declared, actual):
                    say(str(declared))
                    made.append(declared)
        except BaseException:
            for declared in reversed(made):
                try:
                    declared.remove()
                    say(f"undone: {declared}")
                except Exception as failure:  # undo the rest all the same, and tell the operator what is left
                    say(f"could not undo: {declared}: {failure}")
            raise
    return len(made)


def tear_down(declaration: Sequence[Declared], say: Say) -> int:
    """Remove all declared objects, the last one first, whatever their state; returns how many were there.

    Objects inside a declared namespace go with it. If some cannot be removed, all others are removed first; then it
    raises TunnelError, which says what is left.
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
        except (MissingParent, NamespaceError, MissingInterface):
            continue  # what it belonged to is gone, and so is it
        except (TunnelError, OSError) as error:
            left.append(f"{declared}: {error}")
    if left:
        raise TunnelError(f"not removed: {'; '.join(left)}")
    return removed


def in_words(found: Sequence[Difference]) -> str:
    """Join differences into one line."""
    return "; ".join(difference.found for difference in found)


def _make_if_different(declared: Declared, actual: ActualState) -> bool:
    try:
        if declared.difference(actual) is None:
            return False
    except (MissingParent, NamespaceError):
        pass  # `make` raises with the reason
    declared.make()
    if isinstance(declared, NamedNamespace):
        actual.close()
    actual.forget()
    return True
