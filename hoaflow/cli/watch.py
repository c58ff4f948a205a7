# SPDX-License-Identifier: Apache-2.0
"""Print a line for each binding, and another whenever it changes: `hoaflow bindings watch`."""

import datetime
import queue
import threading
import time
from collections.abc import Mapping

from hoaflow.cli.bindings import OfCareOfAddress, OfState, chosen
from hoaflow.cli.client import Json, NotFound
from hoaflow.cli.completion import OfHomeAgent
from hoaflow.cli.errors import CliError
from hoaflow.cli.events import say
from hoaflow.cli.output import moment
from hoaflow.cli.session import Session, with_session
from hoaflow.cli.stream import Event, Position, follow

# Seconds within which events are handled together.
SETTLE = 0.1
# More bindings than this are read all at once.
FEW = 20
# Members whose change is shown; a mere refresh of the lifetime is not.
SHOWN = ("state", "care_of_address", "home_agent")

Item = Event | Position | CliError


@with_session
def watch_bindings(
    at: Session, home_agent: OfHomeAgent = None, care_of_address: OfCareOfAddress = None, state: OfState = None
) -> None:
    """List bindings, then print each change. Ctrl-C ends it.

    Goes on after a restart of the controller. With --json each line is an object: time, change (present, added,
    changed, removed), home_address, binding (null when removed), and reason if there is one.

    \b
    Example: which bindings stop going direct while you drain a router?
      hoaflow bindings watch --home-agent 2001:db8:99::1
    """
    Watch(at, chosen(home_agent, care_of_address) | {"state": state}).run()


class Watch:
    """Hold the bindings as shown last, and follow the events that may change them."""

    def __init__(self, at: Session, filters: dict[str, str | None]) -> None:
        self._at = at
        self._filters = filters
        self._shown: dict[str, Json] = {}
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()

    def run(self) -> None:
        """Watch without end. Raises CliError."""
        threading.Thread(target=self._listen, daemon=True).start()
        self._next()  # the stream has begun: no change is missed from here on
        self._read_all({}, "present")
        while True:
            events = [item for item in self._settled() if isinstance(item, Event)]
            reasons = {str(event.fields.get("home_address", "")): event.fields.get("reason") for event in events}
            # An event without a binding, such as that of a router or a lease, may change them all.
            if "" in reasons or len(reasons) > FEW:
                self._read_all(reasons)
            else:
                for home_address in sorted(reasons):
                    self._read_one(home_address, reasons)

    def _listen(self) -> None:
        try:
            for item in follow(self._at.client(), None, None, say):
                self._items.put(item)
        except CliError as error:
            self._items.put(error)

    def _next(self, timeout: float | None = None) -> Event | Position:
        item = self._items.get(timeout=timeout)
        if isinstance(item, CliError):
            raise item
        return item

    def _settled(self) -> list[Event | Position]:
        """Return the next item with all that follow at once."""
        items = [self._next()]
        deadline = time.monotonic() + SETTLE
        while (left := deadline - time.monotonic()) > 0:
            try:
                items.append(self._next(left))
            except queue.Empty:
                break
        return items

    def _read_all(self, reasons: Mapping[str, str | None], change: str = "added") -> None:
        present = {}
        for page in self._at.controller.pages("bindings", "v1", "bindings", **self._filters):
            for binding in page:
                present[binding["home_address"]] = binding
                self._compare(binding["home_address"], binding, reasons, change)
        for home_address in self._shown.keys() - present.keys():
            self._read_one(home_address, reasons)

    def _read_one(self, home_address: str, reasons: Mapping[str, str | None]) -> None:
        try:
            binding = self._at.controller.get("v1", "bindings", home_address)
        except NotFound:
            binding = None
        self._compare(home_address, binding, reasons, "added")

    def _compare(self, home_address: str, binding: Json | None, reasons: Mapping[str, str | None], change: str) -> None:
        """Print a binding if it differs from what was shown."""
        shown = self._shown.pop(home_address, None)
        if binding is not None and self._wanted(binding):
            self._shown[home_address] = binding
        elif shown is None:
            return
        if binding is None:
            self._tell(home_address, "removed", None, reasons.get(home_address))
        elif shown is None:
            self._tell(home_address, change, binding, None)
        elif any(shown[name] != binding[name] for name in SHOWN):
            self._tell(home_address, "changed", binding, None)

    def _wanted(self, binding: Json) -> bool:
        return all(value in (None, binding[name]) for name, value in self._filters.items())

    def _tell(self, home_address: str, change: str, binding: Json | None, reason: str | None) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._at.output.as_json:
            record = {"time": now, "change": change, "home_address": home_address, "binding": binding}
            self._at.output.record(record | ({"reason": reason} if reason else {}))
            return
        where = f"{binding['care_of_address']:<24} {binding['state']}" if binding else f"({reason or 'gone'})"
        self._at.output.line(f"{moment(now)}  {change:<8} {home_address:<24} {where}")
