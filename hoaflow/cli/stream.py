# SPDX-License-Identifier: Apache-2.0
"""Follow the controller's events: server-sent events (HTML Living Standard section 9.2).

After a loss of the connection or the controller, the stream is resumed where it ended.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import requests
import urllib3

from hoaflow.backoff import Backoff
from hoaflow.cli.client import Client, Json
from hoaflow.cli.errors import CliError, Unauthorised

# The controller sends an event or a sign of life at least every 30 s (event_heartbeat).
SILENCE = 45.0  # seconds
FIRST_RETRY, LAST_RETRY = 0.5, 5.0  # seconds
LARGEST_LINE = 1024 * 1024  # bytes

RESET = "reset"  # events were lost: read everything again


@dataclass(frozen=True, slots=True)
class Event:
    """An event; `fields` are its data, `time` among them."""

    id: int
    name: str
    fields: Json


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a stream without any event, to resume after."""

    id: int


def follow(
    client: Client, names: str | None, after: int | None, say: Callable[[str], None]
) -> Iterator[Event | Position]:
    """Return events without end, those after number `after` (None: from now on), and positions between them.

    `names`: those wanted, separated by commas, None for all. A broken connection is made again, and `say` gets the
    reason. Raises CliError if the first connection fails, and Unauthorised at any time.
    """
    connected, retry = False, Backoff(FIRST_RETRY, LAST_RETRY)
    while True:
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
        try:
            with client.stream(("v1", "events"), headers, SILENCE, name=names) as answer:
                if connected:
                    say("connected again")
                connected = True
                retry.succeeded()
                for item in parse(_lines(answer)):
                    after = item.id
                    yield item
            reason = "the controller has ended the stream"
        except Unauthorised:
            raise
        except CliError as error:
            if not connected:
                raise
            reason = str(error)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason = f"{client.url}: {error}"
        say(f"{reason}; trying again")
        time.sleep(retry.failed())


def parse(lines: Iterator[str]) -> Iterator[Event | Position]:
    """Return the events in the lines of a stream. Raises CliError for a malformed one."""
    id_, name, data = 0, "", ""
    for line in lines:
        if not line:
            if data:
                yield Event(id_, name, _object(data))
            elif id_:
                yield Position(id_)
            name, data = "", ""
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id" and value.isascii() and value.isdigit():
            id_ = int(value)
        elif field == "event":
            name = value
        elif field == "data":
            data += value


def _object(data: str) -> Json:
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise CliError(f"expected an event's data as a JSON object, got {data[:100]!r}")
    return content


def _lines(answer: requests.Response) -> Iterator[str]:
    """Return the lines of an answer as they arrive."""
    rest = b""
    while chunk := answer.raw.read1(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LARGEST_LINE:
            raise CliError(f"expected an event, got a line of more than {LARGEST_LINE} bytes")
        yield from (line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines)
