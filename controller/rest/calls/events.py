# SPDX-License-Identifier: Apache-2.0
"""Serve events: as a stream of server-sent events (HTML Living Standard section 9.2), or by page in JSON.

The stream is ours because no library here makes one that gives up on slow readers.
"""

import time
from collections.abc import Callable, Collection, Iterator
from http import HTTPStatus

import eventlet
from msgspec import UNSET, UnsetType
from werkzeug.wrappers import Response

from controller.access.roles import Role
from controller.core.events import EVENTS
from controller.events import EventsLost, Part, RecordedEvent
from controller.rest.context import ApiContext
from controller.rest.http.stream_reader import StreamReader
from controller.rest.operations import Content, operation
from controller.rest.problems import Problem, wrong_field
from controller.rest.request import ApiRequest
from controller.rest.responses import json_response
from controller.rest.schemas import answers
from controller.rest.schemas.queries import EventsQuery
from hoaflow.logs import Log

LOG = Log("rest")

# Most events in one write.
EVENTS_PER_WRITE = 200
# Seconds between two writes to one client, so that a burst of events costs one write.
PACE = 0.05
# Milliseconds that a client should wait before it connects again.
RETRY = 1000


class EventCalls:
    """Carry out the call `/v1/events`, and count the clients that follow it."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._streams = 0

    @operation(
        "GET",
        "/v1/events",
        Role.READ,
        {HTTPStatus.OK: (Content(str, "text/event-stream"), Content(answers.Events))},
        problems=(HTTPStatus.SERVICE_UNAVAILABLE,),
        query=EventsQuery,
    )
    def get_events(self, request: ApiRequest, query: EventsQuery) -> Response:
        """Follow events as server-sent events, or list those that are buffered.

        The stream begins now, or after the event that `after` or the header `Last-Event-ID` names. With
        `follow=no`, the buffered events come by page.
        """
        names = _names(query.name)
        return self._stream(request, query, names) if query.follow == "yes" else self._page(query, names)

    def _page(self, query: EventsQuery, names: Collection[str] | None) -> Response:
        buffer = self._context.events
        named = query.after if query.cursor is UNSET else query.cursor
        after = 0 if named is UNSET else named
        try:
            part = buffer.read(after or buffer.begin, names, query.limit)
        except EventsLost:
            reset = buffer.reset(after or buffer.begin, time.time())
            part = Part([reset], reset.id)
        more = part.position < buffer.last
        return json_response(answers.Events(list(map(_item, part.events)), str(part.position) if more else None))

    def _stream(self, request: ApiRequest, query: EventsQuery, names: Collection[str] | None) -> Response:
        buffer = self._context.events
        position = _position(request, query, buffer.last)
        most = self._context.settings.event_streams
        if self._streams >= most:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{most} clients follow the events already, as many as event_streams allows;"
                " try again later, or poll with follow=no",
            )
        reader = StreamReader(request.environ, left=buffer.wake)
        response = Response(
            self._blocks(position or buffer.begin, names, reader, request.still_authorized),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._streams += 1
        self._context.metrics.streams.inc()

        def ended() -> None:
            self._streams -= 1
            self._context.metrics.streams.dec()
            reader.release()
            if not request.still_authorized():
                LOG.info("event-stream-ended", reason="token withdrawn", streams=self._streams)
            elif not reader.has_left:  # a stream has no end of its own
                self._context.metrics.streams_dropped.inc()
                LOG.info("event-stream-dropped", reason="slow", streams=self._streams)

        response.call_on_close(ended)
        return response

    def _blocks(
        self, position: int, names: Collection[str] | None, reader: StreamReader, allowed: Callable[[], bool]
    ) -> Iterator[bytes]:
        """Yield the blocks for one client until it has left, is too slow, or is not `allowed` any more."""
        buffer, heartbeat = self._context.events, self._context.settings.event_heartbeat
        yield b"retry: %d\n\n" % RETRY
        written = -heartbeat  # at once: a client without events must know where to resume, too
        up_to_date = True
        while not reader.has_left and allowed():
            try:
                part = buffer.read(position, names, EVENTS_PER_WRITE)
            except EventsLost:
                if not up_to_date:
                    return
                # Too many events at once, or a position too old: not the client's fault.
                reset = buffer.reset(position, time.time())
                position = reset.id
                yield reset.block()
                continue
            position, now = part.position, time.monotonic()
            if part.events or now - written >= heartbeat:
                yield b"".join([recorded.block() for recorded in part.events]) or b":\nid: %d\n\n" % position
                written = now
            # Checked after the write, which takes as long as the client does. A client that is behind after a burst of
            # events is not slow.
            up_to_date = position == buffer.last or time.monotonic() - now <= PACE
            eventlet.sleep(PACE)
            if position == buffer.last and not reader.has_left:
                buffer.wait(max(0.0, written + heartbeat - now))


def _names(text: str | UnsetType) -> Collection[str] | None:
    if text is UNSET:
        return None
    names = frozenset(text.split(","))
    unknown = sorted(names - EVENTS.keys())
    if unknown:
        raise wrong_field("name", f"there is no event {unknown[0][:40]!r}; there are {', '.join(EVENTS)}")
    return names


def _position(request: ApiRequest, query: EventsQuery, last: int) -> int:
    """Return the event after which a client wants to go on: `last` if it names none, 0 for all in the buffer."""
    if query.after is not UNSET:
        return query.after
    # A browser sends this by itself, so nothing is refused: an impossible id counts as one that is gone.
    return request.headers.get("Last-Event-ID", -1, type=int) if request.headers.get("Last-Event-ID") else last


def _item(recorded: RecordedEvent) -> answers.EventItem:
    return {"id": recorded.id, "name": recorded.event.name, **recorded.members()}
