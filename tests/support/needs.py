# SPDX-License-Identifier: Apache-2.0
"""Tell unit tests from those that need more than this process: other programs, namespaces, and so mostly root.

What a test needs is read off its code: it is a unit test unless it, one of its fixtures, or a function or class of the
tests' own that these use, names something of `BEYOND_THIS_PROCESS`. A unit test that starts a program all the same
fails, and `make unit` runs without privileges: what turns out to need root fails there as well.
"""

import sys
import types
from collections.abc import Iterator
from inspect import isfunction, unwrap
from typing import Any

import pytest

# Modules that start programs, or reach into namespaces and the kernel's state.
BEYOND_THIS_PROCESS = {"subprocess", "multiprocessing", "pyroute2", "mininet"} | {
    "hoaflow.tunnel.namespace",
    "hoaflow.tunnel.links",
}
# Packages whose code is followed; of the product, only calls of the modules above count.
FOLLOWED = ("tests", "tools", "topologies")
PROGRAM_STARTED = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"}

_running: list[str] = []


def mark_unit_tests(items: list[pytest.Item]) -> None:
    """Mark the tests that need nothing but this process."""
    verdicts: dict[int, bool] = {}
    for item in items:
        if item.get_closest_marker("programs") or "pytester" in getattr(item, "fixturenames", ()):
            continue
        if not isinstance(item, pytest.Function) or not item.module.__name__.startswith("tests."):
            continue  # a test that another test has written: its code is not followed
        if not any(_needs_more(code, verdicts) for code in _code_of(item)):
            item.add_marker("unit")


def watch(item: pytest.Item) -> None:
    """Fail what starts a program from now on if `item` is a unit test."""
    _running[:] = [item.nodeid] if item.get_closest_marker("unit") else []


def _audit(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in PROGRAM_STARTED and _running:
        raise AssertionError(f"{_running[0]} is a unit test by its code, but starts a program ({event})")


sys.addaudithook(_audit)


def _code_of(item: pytest.Function) -> Iterator[object]:
    """Return a test's function and those of its fixtures."""
    yield item.function
    definitions = item._fixtureinfo.name2fixturedefs
    for name in item.fixturenames:
        yield from (unwrap(definition.func) for definition in definitions.get(name, ()))


def _needs_more(thing: object, verdicts: dict[int, bool]) -> bool:
    """Tell whether a function or class, or what it names, lies beyond this process."""
    module = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None) or ""
    if any(module == beyond or module.startswith(f"{beyond}.") for beyond in BEYOND_THIS_PROCESS):
        return True
    if module.partition(".")[0] not in FOLLOWED or isinstance(thing, types.ModuleType):
        return False
    if id(thing) not in verdicts:
        verdicts[id(thing)] = False  # in case it names itself
        verdicts[id(thing)] = any(_needs_more(named, verdicts) for named in _named(thing))
    return verdicts[id(thing)]


def _named(thing: object) -> Iterator[object]:
    """Return what the code of a function or of a class's methods names, as far as it is known without running it."""
    if isinstance(thing, type):
        yield from thing.__bases__
        for member in vars(thing).values():
            member = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isfunction(member):
                yield from _named(member)
        return
    function = unwrap(thing) if callable(thing) else thing
    if not isfunction(function):
        return
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        for name in code.co_names:
            found = function.__globals__.get(name)
            if found is not None:
                yield found
            # `module.function` of the tests' own modules
            if isinstance(found, types.ModuleType) and found.__name__.partition(".")[0] in FOLLOWED:
                yield from (vars(found)[other] for other in code.co_names if other in vars(found))
