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

**Events** tell programs and operators what happens, as it happens. **Logs** are for afterwards, and for what no event
is about. The controller's log has a line for each event.

## Follow events

    hoaflow events
    hoaflow events --name binding-active,lease-lapsed --json

`GET /v1/events` answers server-sent events; `?name=A,B` chooses, `?follow=no` answers those of late as JSON, by page.

    $ curl -N http://127.0.0.1:8080/v1/events
    retry: 1000

    :
    id: 1784729301123456

    id: 1784729301123457
    event: lease-lapsed
    data: {"time":"2026-07-22T14:08:21.517Z","home_agent":"2001:db8:99::1"}

- Ids go up by one, and go on going up after a restart of the controller. Who has been cut off goes on with the header
  `Last-Event-ID`, as browsers do by themselves, or with `?after=ID`; `?after=0` begins with the oldest that is kept.
- `event_buffer` events are kept. If those after an id are not there any more, `reset` comes in their place: load by GET
  what you show, and go on. A burst of more events than are kept is a `reset`, too. After a restart of the controller it
  is followed by what has happened since.
- Every `event_heartbeat` seconds without an event there is a comment, with the id reached so far.
- A client that takes nothing for five seconds, or cannot keep up with the buffer, is dropped; it costs the controller
  no more than its socket's buffer. `event_streams` clients may follow at a time.
- To follow without a gap: connect first, then load by GET, then apply what the stream brings.

| event | what it tells | fields |
| --- | --- | --- |
"""
AGENT_HEAD = """
### What `hoaflow-router run` says

| event | what it tells | fields |
| --- | --- | --- |
"""
AGENT_TAIL = """
All have `bridge` or `home_agent`. Those in bold are warnings (`database`, `kernel` and `comparison` with `ok` are not).
"""
# Of the agent's log: the event, what it tells, its fields.
AGENT = {
    "`backend`": (
        "The backend that the bridge has been found with.",
        "`backend`: flow or route; `dpid`, `ports`",
    ),
    "`endpoints`": (
        "The tunnel endpoints (`route`) that the database records for the bridge, at the start and when they change.",
        "`home_agents`, `dpid`",
    ),
    "`router-macs`": (
        "The MAC addresses of the router's kernel: frames for these are for the router. At the start and when "
        "they change.",
        "`macs`; `left_out`: how many more there are than the controller takes (64)",
    ),
    "`controller`": (
        "The controller can be reached (`ok`), or not and why: routes are kept.",
        "`state`, `url`",
    ),
    "**`database`**": (
        "The Open vSwitch database can't be read, or has no such bridge, and why: endpoints are kept, the "
        "kernel's part is compared all the same. `ok` when it is back.",
        "`state`",
    ),
    "`database-not-followed`": (
        "ovs-vsctl reaches the database, the agent's own connection does not (a name or `ssl:` in `--db`): "
        "changes are seen within 3 s instead of at once.",
        "`reason`",
    ),
    "**`mended`**": (
        "Something of an endpoint, or of the `flow` backend, was not as declared, and is again.",
        "`home_agent`, `found`: all that was different",
    ),
    "**`broken`**": (
        "Something of an endpoint, or of the `flow` backend, is not as declared and can't be put right. "
        "It is announced with "
        "the reason as its `problem`, so the controller closes its gates; `mended` follows when it is whole.",
        "`home_agent`, `reason`",
    ),
    "**`kernel`**": (
        "The interfaces of the router's kernel can't be read, and why: no sign of life is given, so the controller "
        "closes the router's gates. `ok` when they can.",
        "`state`",
    ),
    "**`comparison`**": (
        "Not all could be compared, and why; all is kept. `ok` when it is through.",
        "`state`",
    ),
    "**`failed`**": (
        "A home address can't be carried; its home agent does.",
        "`home_address`, `reason`",
    ),
    "**`firewall-not-tried`**": (
        "It could not be told whether the router's packet filter drops what leaves the tunnel.",
        "`home_agent`, `reason`",
    ),
    "**`leftovers`**": (
        "Routes or pairs that are not wanted any more could not be removed; they are, later.",
        "`home_agent`, `reason`",
    ),
    "`stopped`": (
        "The agent ends; routes are kept.",
        "`bridge`",
    ),
}
LOGS = f"""
All have `time`, in UTC. Those in bold are logged as warnings.

## Logs

One line per event on standard error, for journald or whoever collects it, the same in controller, bridge, home agent
and router's agent:

    time=2026-07-22T14:08:21.517Z level=info event=binding-removed home_address=#9f86d08188 reason=expired

| `ha-bridge`, `hoaflow-ha`, `hoaflow-router run` | the controller, in `[hoaflow]` | |
| --- | --- | --- |
| `--log-format text` or `json` | `log_format` | `key=value`, or a JSON object per line |
| `--log-level` | `log_level` | `debug`, `info` (default), `warning` or `error` |
| `--log-addresses` | `log_addresses` | show subscribers' addresses |
| `--log-key FILE` | `log_key` | secret for their hashes, of 16 bytes or more |

- **Values are quoted** as JSON strings unless they are plain ASCII without blanks, quotes, backslashes and equals
  signs. Nothing that comes from outside can end a line, begin a field or reach your terminal. Lines of libraries are
  `event=library`; a traceback is a field of its line.
- **Subscribers' addresses** are not logged above level `debug`. Each address, home or care-of, also within a text, is
  replaced by `#` and ten hexadecimal digits: a keyed hash, so that lines on the same address can be found together. The
  key is a new one with each start. For lines that match over restarts and between parts, give all of them one key:

      (umask 077; head -c 32 /dev/urandom | base64 > /etc/hoaflow/log.key)

  Who has the key can find out the addresses by trying: keep it as you would keep them. Addresses of the operator's own
  network stay as they are in these fields: {", ".join(f"`{name}`" for name in sorted(PUBLIC - _OF_EACH_LINE))}.
- **Floods are counted**: of one event, {LINES_PER_SECOND} lines are written in a second; `event=lines-left-out of=…
  lines=…` says how many more there were. Of the events themselves none is left out.
"""


def page() -> str:
    """Return the page, with the tables of the controller's events and of the agent's log lines."""
    rows = []
    for name, event in EVENTS.items():
        fields = "<br>".join(f"`{field}`: {meaning}" for field, meaning in event.fields.items())
        rows.append(f"| {f'**`{name}`**' if event.trouble else f'`{name}`'} | {event.help} | {fields} |\n")
    rows.append("| `reset` | Events are missing here: load by GET what they were about. | |\n")
    of_agent = [f"| {event} | {told} | {fields} |\n" for event, (told, fields) in AGENT.items()]
    return HEAD + "".join(rows) + LOGS + AGENT_HEAD + "".join(of_agent) + AGENT_TAIL
