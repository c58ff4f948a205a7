# SPDX-License-Identifier: Apache-2.0
"""What all calls of the API share: what they act on, how a body is read and how an answer is given."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from operator import itemgetter
from typing import TypeVar

import eventlet
import msgspec
from msgspec import UNSET, Struct
from werkzeug.wrappers import Request, Response

from controller.access.roles import Forbidden
from controller.changes import ChangeSignal, KeyedSignal
from controller.core.bindings import StaleSequence
from controller.core.offload import Offload
from controller.events import EventBuffer
from controller.metrics import Metrics
from controller.rest.operations import JSON
from controller.rest.problems import Problem
from controller.rest.schemas.answers import FieldError
from controller.rest.schemas.queries import PageQuery
from controller.settings import Settings
from controller.southbound.channel import SwitchChannel
from controller.traffic_history import TrafficHistory

# Where a request's WSGI environment says when it came, on the monotonic clock.
ARRIVED = "hoaflow.arrived"

# How many of many items are worked off before others may go on: some milliseconds' worth.
SLICE = 100
# The same of items that are only looked at.
LOOKS = 500

T = TypeVar("T")
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class ApiContext:
    """What calls act on. ``channels`` are the connected switches by datapath id; ``notify`` tells all that something
    in the core may have changed, ``changed`` waits for that, and ``moved`` for what happens to one home address;
    ``events`` are those that happened of late, ``metrics`` what is measured, ``traffic`` what was carried over the last
    hour."""

    offload: Offload
    settings: Settings
    channels: Mapping[int, SwitchChannel]
    changed: ChangeSignal
    moved: KeyedSignal
    notify: Callable[[], None]
    events: EventBuffer
    metrics: Metrics
    traffic: TrafficHistory

    def body(self, request: Request) -> bytes:
        """Return a request's body. Raises Problem when it is too large, or does not come in time or as announced."""
        seconds, largest = self.settings.request_timeout, self.settings.largest_body
        if (request.content_length or 0) > largest:
            raise _too_large(largest)
        try:
            with eventlet.Timeout(seconds):
                # One byte more than allowed tells a body that is too large, also one of unknown length.
                body = request.stream.read(largest + 1)
        except (eventlet.Timeout, TimeoutError):
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {seconds} s") from None
        except (OSError, ValueError) as error:  # of eventlet, for a wrong chunk or a connection that ends in one
            raise Problem(HTTPStatus.BAD_REQUEST, f"the body can't be read: {error}") from None
        if len(body) > largest:
            raise _too_large(largest)
        return body

    def slices(self, items: Sequence[T]) -> Iterator[Sequence[tuple[int, T]]]:
        """Iterate over items, each with its place, slice by slice: after each, what it did takes effect, and others may
        go on."""
        for start in range(0, len(items), SLICE):
            yield list(enumerate(items[start : start + SLICE], start))
            self.pause()

    def by_turns(self, items: Iterable[T]) -> Iterator[T]:
        """Iterate over many items, as they are now, and let others go on after some."""
        for place, item in enumerate(list(items), 1):
            yield item
            if place % LOOKS == 0:
                eventlet.sleep(0)

    def unhurried(self, steps: Iterable[T]) -> Iterator[T]:
        """Iterate over the steps of something long, and let others go on after each."""
        for step in steps:
            yield step
            eventlet.sleep(0)

    def pause(self) -> None:
        """Let what has been done take effect, and others go on."""
        self.notify()
        eventlet.sleep(0)


def _too_large(largest: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of at most {largest} bytes (largest_body)")


def json_answer(content: Struct, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return an answer in JSON."""
    return Response(msgspec.json.encode(content), status=status, content_type=JSON)


def page_answer(
    page: Callable[[list[P], str | None], Struct],
    query: PageQuery,
    items: Iterable[tuple[str, T]],
    view: Callable[[T], P],
) -> Response:
    """Return the page of a list that a request asks for.

    ``items`` are pairs of a unique text, by which they are ordered, and a thing; ``view`` says how one looks.
    """
    cursor, size = query.cursor, query.limit
    following_ones = (item for item in items if cursor is UNSET or item[0] > cursor)
    rest = heapq.nsmallest(size + 1, following_ones, key=itemgetter(0))
    following = rest[size - 1][0] if len(rest) > size else None
    return json_answer(page([view(thing) for _, thing in rest[:size]], following))


def forbidden_problem(error: Forbidden) -> Problem:
    """Return the refusal of what the caller's token is not for."""
    return Problem(HTTPStatus.FORBIDDEN, str(error), (FieldError(error.field, error.reason),))


def stale_problem(error: StaleSequence) -> Problem:
    """Return the refusal of an update that would go back in time."""
    return Problem(HTTPStatus.CONFLICT, str(error), (FieldError("sequence", str(error)),))
