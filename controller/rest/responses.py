# SPDX-License-Identifier: Apache-2.0
"""Make answers in JSON: one value, or a page of a list."""

import heapq
from collections.abc import Callable, Iterable
from http import HTTPStatus
from operator import itemgetter
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct
from werkzeug.wrappers import Response

from controller.rest.operations import JSON
from controller.rest.schemas.queries import PageQuery

T = TypeVar("T")
V = TypeVar("V")
S = TypeVar("S", bound=Struct)


def json_response(content: Struct, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return `content` as an answer in JSON."""
    return Response(msgspec.json.encode(content), status=status, content_type=JSON)


def page_response(
    page: Callable[[list[V], str | None], Struct],
    query: PageQuery,
    items: Iterable[tuple[str, T]],
    view: Callable[[T], V],
) -> Response:
    """Return the page of a list that `query` asks for, as an answer (see `page_of`)."""
    return json_response(page_of(page, query, items, view))


def page_of(
    page: Callable[[list[V], str | None], S],
    query: PageQuery,
    items: Iterable[tuple[str, T]],
    view: Callable[[T], V],
) -> S:
    """Return the page of a list that `query` asks for.

    `items` are pairs of a unique text, by which the list is ordered, and a value; `view` makes the value's struct.
    """
    cursor, size = query.cursor, query.limit
    after_cursor = (item for item in items if cursor is UNSET or item[0] > cursor)
    found = heapq.nsmallest(size + 1, after_cursor, key=itemgetter(0))
    following = found[size - 1][0] if len(found) > size else None
    return page([view(value) for _, value in found[:size]], following)
