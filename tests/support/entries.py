# SPDX-License-Identifier: Apache-2.0
"""Count what the containers in an object hold, however deep they lie: what only grows is seen by that."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from types import MethodType

CONTAINERS = (dict, list, set, frozenset, deque)


def entries(root: object) -> Counter[str]:
    """Return the number of entries of all containers that `root` reaches, by the attributes that lead to each.

    Containers in containers count together, and each object counts once.
    """
    found: Counter[str] = Counter()
    seen: set[int] = set()
    left = [(type(root).__name__, root)]
    while left:
        path, each = left.pop()
        if id(each) in seen or isinstance(each, (str, bytes, int, float, type(None), type)):
            continue
        seen.add(id(each))
        if isinstance(each, CONTAINERS):
            found[path] += len(each)
        left += [(f"{path}{name}", value) for name, value in _reached(each)]
    return found


def _reached(each: object) -> Iterator[tuple[str, object]]:
    if isinstance(each, Mapping):
        yield from (("[]", value) for value in (*each.keys(), *each.values()))
    elif isinstance(each, (*CONTAINERS, tuple)):
        yield from (("[]", value) for value in each)
    if isinstance(each, MethodType):
        yield "", each.__self__
    attributes = vars(each) if hasattr(each, "__dict__") else {}
    yield from ((f".{name}", value) for name, value in attributes.items())
    for name in _slots(type(each)):
        if hasattr(each, name):
            yield f".{name}", getattr(each, name)


def _slots(cls: type) -> Iterable[str]:
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots
