# SPDX-License-Identifier: Apache-2.0
"""A home agent's network namespace, as the bridge's kernel source follows it."""

import subprocess
import threading
from collections.abc import Callable
from typing import Any

from ha_bridge.kernel_watch import KernelWatch
from tests.support.bridge import HOME_AGENT, HOME_PREFIX, enter_namespace
from topologies.waiting import patient

PREFIXES = [HOME_PREFIX, "2001:db8:aa::/48", "10.99.0.0/24"]
NETNS = "hab-kernel"


def ip(*words: str) -> None:
    subprocess.run(["ip", "-n", NETNS, *words], check=True, timeout=patient(30))


def within(do: Callable[[], Any]) -> Any:
    """Call `do` in a thread that has entered the namespace: sockets stay where they were made."""
    result: list[Any] = []

    def enter() -> None:
        enter_namespace(NETNS)
        result.append(do())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(patient(30))
    assert result, "the call in the namespace failed"
    return result[0]


def register(home: str, care_of: str, verb: str = "replace") -> None:
    """Do what hoaflow's home agent does on a kernel without ip6tnl."""
    encap = ("encap", "seg6", "mode", "encap.red", "segs", care_of, "via", "2001:db8:10::1", "dev", "u0")
    ip("-6", "route", verb, f"{home}/128", *encap, "proto", "16")


class Watched:
    """A KernelWatch in the namespace, whose changes can be awaited."""

    def __init__(self, keep_view: bool = True) -> None:
        self._grown = threading.Condition()
        self.changes = 0
        self.watch: KernelWatch = within(lambda: KernelWatch(HOME_AGENT, PREFIXES, self._changed, keep_view))

    def _changed(self) -> None:
        with self._grown:
            self.changes += 1
            self._grown.notify_all()

    def start(self) -> "Watched":
        threading.Thread(target=self._follow, daemon=True).start()
        return self

    def _follow(self) -> None:
        enter_namespace(NETNS)  # after an overrun the thread opens new sockets
        self.watch.run()

    def until(self, predicate: Callable[[], object]) -> None:
        with self._grown:
            assert self._grown.wait_for(predicate, patient(30)), f"{self.changes} changes, {self.watch.bindings()}"

    def care_of(self) -> dict[str, str]:
        return {binding.home_address: binding.care_of_address for binding in self.watch.bindings()}
