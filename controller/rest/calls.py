# SPDX-License-Identifier: Apache-2.0
"""What all calls of the API share: what they act on, how a body is read and how an answer is given."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import eventlet
import msgspec
from werkzeug.wrappers import Request, Response

from controller.changes import ChangeSignal
from controller.core.bindings import StaleSequence
from controller.core.offload import Offload
from controller.events import EventBuffer
from controller.rest import bodies, views
from controller.rest.problems import FieldError, Problem, wrong_field
from controller.settings import Settings
from controller.southbound.channel import SwitchChannel

LONGEST_NUMBER = 18  # digits

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Controlled:
    """What calls act on. ``channels`` are the connected switches by datapath id; ``notify`` tells all that something
    in the core may have changed, ``changed`` waits for that; ``events`` are those that happened of late."""

    offload: Offload
    settings: Settings
    channels: Mapping[int, SwitchChannel]
    changed: ChangeSignal
    notify: Callable[[], None]
    events: EventBuffer

    def body(self, request: Request) -> bytes:
        """Return a request's body. Raises Problem when it is too large or does not come in time."""
        seconds, largest = self.settings.request_timeout, self.settings.largest_body
        try:
            with eventlet.Timeout(seconds):
                # One byte more than allowed tells a body that is too large, also one of unknown length.
                body = request.stream.read(largest + 1)
        except eventlet.Timeout:
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {seconds} s") from None
        if len(body) > largest:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of at most {largest} bytes (largest_body)"
            )
        return body


def json_answer(content: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return an answer in JSON."""
    return Response(msgspec.json.encode(content), status=status, content_type="application/json")


def page_answer(request: Request, name: str, items: Iterable[tuple[str, T]], view: Callable[[T], object]) -> Response:
    """Return the page of a list that a request asks for; ``items`` are pairs of a unique text and a thing."""
    page = views.page(items, request.args.get("limit"), request.args.get("cursor"))
    return json_answer({name: [view(item) for item in page.items], "next": page.next})


def stale_problem(error: StaleSequence) -> Problem:
    """Return the refusal of an update that would go back in time."""
    return Problem(HTTPStatus.CONFLICT, str(error), (FieldError("sequence", str(error)),))


def members_of(body: bytes) -> Iterable[str]:
    """Return the names of the members of a JSON object. Raises Problem for anything else."""
    return bodies.decode(body, dict[str, msgspec.Raw])


def number_in_query(request: Request, name: str, default: int) -> int:
    """Return a number of the query. Raises Problem."""
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise wrong_field(name, f"expected a number of up to {LONGEST_NUMBER} digits, got {text[:40]!r}")
    return int(text)
