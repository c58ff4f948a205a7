# SPDX-License-Identifier: Apache-2.0
"""Generate docs/logs-and-events.md from the events that the controller declares."""

from controller.core.events import EVENTS
from hoaflow.logs.events import LINES_PER_SECOND
from hoaflow.logs.privacy import PUBLIC

# What each line has besides its fields.
_OF_EACH_LINE = frozenset({"time", "level", "event"})

HEAD = """\
<!-- Made by `make pages` from the events that the controller declares, and from what hoaflow/logs/ does. -->
# Logs and events

**Events** tell programs and operators what happens, as it happens. **Logs** record it, and all that no event is about.
The controller's log has a line for each event.

## Follow events

    hoaflow events
    hoaflow events --name binding-active,lease-lapsed --json

`GET /v1/events` streams server-sent events; `?name=A,B` filters; `?follow=no` returns recent events as pages of JSON.

    $ curl -N http://127.0.0.1:8080/v1/events
    retry: 1000

    :
    id: 1784729301123456

    id: 1784729301123457
    event: lease-lapsed
    data: {"time":"2026-07-22T14:08:21.517Z","home_agent":"2001:db8:99::1"}

- Ids increase by one, and keep increasing after a restart of the controller. A client that was disconnected resumes
  with the header `Last-Event-ID`, as browsers do, or with `?after=ID`; `?after=0` starts at the oldest event that the
  controller keeps.
- The controller keeps `event_buffer` events. If it no longer has those after an id, or a burst exceeds the buffer, the
  client gets `reset` in their place: reload by GET whatever you show, and continue. After a restart of the controller,
  `reset` is followed by all events since then.
- After `event_heartbeat` seconds without an event, the stream has a comment with the last id.
- The controller drops a client that accepts nothing for five seconds or falls behind the buffer. A client costs it no
  more than a socket's buffer. `event_streams` clients may follow at a time.
- To follow without a gap, connect first, then load by GET, then apply the stream.

| event | meaning | fields |
| --- | --- | --- |
"""
AGENT_HEAD = """
### Log lines of `hoaflow-router run`

| event | meaning | fields |
| --- | --- | --- |
"""
AGENT_TAIL = """
All have `bridge` or `home_agent`. Those in bold are warnings, unless `state` is `ok`.
"""
# The tunnel agent's log lines: event, meaning, fields.
AGENT = {
    "`backend`": (
        "The backend that the bridge has.",
        "`backend`: flow or route; `dpid`, `ports`",
    ),
    "`endpoints`": (
        "The bridge's tunnel endpoints (`route`) in the database, at the start and when they change.",
        "`home_agents`, `dpid`",
    ),
    "`router-macs`": (
        "The MAC addresses of the router's kernel, at the start and when they change; only frames for these are "
        "offloaded.",
        "`macs`; `left_out`: how many more there are than the controller takes (64)",
    ),
    "`controller`": (
        "Whether the controller can be reached (`ok`), or why not; routes stay meanwhile.",
        "`state`, `url`",
    ),
    "**`database`**": (
        "Why the Open vSwitch database can't be read, or that it has no such bridge; endpoints stay, and the "
        "kernel's part is still compared. `ok` when it can be read again.",
        "`state`",
    ),
    "`database-not-followed`": (
        "The agent's own connection does not reach the database, although ovs-vsctl does (a name or `ssl:` in `--db`); "
        "it sees changes within 3 s instead of at once.",
        "`reason`",
    ),
    "**`mended`**": (
        "The agent has mended an endpoint, or the `flow` backend.",
        "`home_agent`, `found`: all that differed from what setup made",
    ),
    "**`broken`**": (
        "An endpoint, or the `flow` backend, differs from what setup made, and can't be mended. The agent announces "
        "the reason as its `problem`, so the controller closes its gates; `mended` follows when it is whole.",
        "`home_agent`, `reason`",
    ),
    "**`kernel`**": (
        "Why the interfaces of the router's kernel can't be read; the agent stays silent, so the controller closes "
        "the router's gates. `ok` when they can be read again.",
        "`state`",
    ),
    "**`comparison`**": (
        "Why the comparison could not be completed; everything stays, but after 10 s no controller is called, so that "
        "the leases end. `ok` when it is complete again.",
        "`state`",
    ),
    "**`failed`**": (
        "A home address's tunnel can't be set up; its home agent carries its traffic.",
        "`home_address`, `reason`",
    ),
    "**`firewall-not-tried`**": (
        "The agent could not test whether the router's packet filter drops direct traffic. If packets never come to "
        "it, it is tried again at once; after the second time the home agents carry their traffic.",
        "`what` (home agent or bridge), `reason`",
    ),
    "**`routes-unread`**": (
        "The agent could not ask the router's kernel for its routes to care-of addresses. It tries again with the next "
        "comparison.",
        "`home_agent`, `reason`",
    ),
    "**`leftovers`**": (
        "Routes or pairs that are no longer wanted could not be removed; the agent tries again.",
        "`home_agent`, `reason`",
    ),
    "`stopped`": (
        "The agent ends; routes stay.",
        "`bridge`",
    ),
}
LOGS = f"""
All have `time`, in UTC. The log has those in bold as warnings.

## Logs

Controller, bridge, home agent and tunnel agent write one line per event to standard error, all in the same form:

    time=2026-07-22T14:08:21.517Z level=info event=binding-removed home_address=#9f86d08188 reason=expired

| `ha-bridge`, `hoaflow-ha`, `hoaflow-router run` | the controller, in `[hoaflow]` | |
| --- | --- | --- |
| `--log-format text` or `json` | `log_format` | `key=value`, or a JSON object per line |
| `--log-level` | `log_level` | `debug`, `info` (default), `warning` or `error` |
| `--log-addresses` | `log_addresses` | show subscribers' addresses |
| `--log-key FILE` | `log_key` | secret for their hashes, of 16 bytes or more |

- **Values are quoted** as JSON strings unless they are plain ASCII without blanks, quotes, backslashes and equals
  signs, so nothing from outside can end a line, begin a field or control your terminal. Lines of libraries are
  `event=library`; a traceback is a field of its line.
- **Subscribers' addresses** appear at level `debug` only. Elsewhere, `#` and ten hexadecimal digits replace each home
  or care-of address, also within a text. The digits are a keyed hash, so lines about one address have the same digits.
  Each program makes a new key when it starts. To match lines across restarts and programs, give all of them one key:

      (umask 077; head -c 32 /dev/urandom | base64 > /etc/hoaflow/log.key)

  Whoever has the key can find the addresses by trial, so protect it as you would protect them. Addresses of the
  operator's own network stay readable in these fields: {
    ", ".join(f"`{name}`" for name in sorted(PUBLIC - _OF_EACH_LINE))
}.
- **Floods are limited** to {LINES_PER_SECOND} lines per second of one event; `event=lines-left-out of=… lines=…` counts
  the others. `GET /v1/events` leaves none out.
"""


def page() -> str:
    """Return the page, with the tables of the controller's events and of the agent's log lines."""
    rows = []
    for name, event in EVENTS.items():
        fields = "<br>".join(f"`{field}`: {meaning}" for field, meaning in event.fields.items())
        rows.append(f"| {f'**`{name}`**' if event.trouble else f'`{name}`'} | {event.help} | {fields} |\n")
    rows.append("| `reset` | Events are missing here: reload by GET whatever you show. | |\n")
    of_agent = [f"| {event} | {told} | {fields} |\n" for event, (told, fields) in AGENT.items()]
    return HEAD + "".join(rows) + LOGS + AGENT_HEAD + "".join(of_agent) + AGENT_TAIL
