# SPDX-License-Identifier: Apache-2.0
"""Declare each call once, where it is carried out; routing, access control and OpenAPI are made from that.

Ours because werkzeug's rules know nothing of roles, bodies and answers, and no library here makes OpenAPI. `{name}` in
a path is one of `PathParameters`; the handler gets its text by name, after the request.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct
from werkzeug.routing import BaseConverter, Rule

from controller.access.roles import Role
from controller.rest.schemas.fields import DatapathId, HomeAddress, IpAddress

JSON = "application/json"
_PARAMETER = re.compile(r"\{(\w+)\}")

Handler = TypeVar("Handler", bound=Callable[..., Any])


class HomeAddressConverter(BaseConverter):
    """Match a home address, or a prefix with its slash as such or as %2F, which WSGI does not distinguish."""

    regex = r"[^/]+(?:/[0-9]+)?"
    part_isolating = False


class PathParameters(Struct):
    """The parameters of paths and their types."""

    address: IpAddress
    home_address: HomeAddress
    dpid: DatapathId
    file: Annotated[str, Meta(description="The name of a file.")]


# Converters of the parameters that may span several segments of a path.
CONVERTERS: Mapping[str, type[BaseConverter]] = {"home_address": HomeAddressConverter}


class Reach(Enum):
    """Who of a cluster carries a call out, or is asked for it."""

    ASKED = "the member that gets it"
    MASTER = "the master of the router"
    MASTERS = "the member that gets it, and each router's master for that router"
    ALL = "all members"


@dataclass(frozen=True, slots=True)
class Content:
    """The content of an answer: a type encoded as JSON, or text of another media type."""

    type: Any
    media_type: str = JSON


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """Declare one call: its parameters, its answers, and who may make it.

    `also`: roles that may make it besides `needs` and an admin; of lists a bridge gets its own home agent's part.
    `answers` has the possible contents by status, none for an empty body. `problems` are its own refusals; `refusals`
    adds those that follow from the rest of the declaration. `body` is a struct, or a union of structs that differ in
    their required members. `handler` names the method that carries it out, whose docstring is the description.
    `late_body`: the handler gets a function that reads the body. `reach`: who of a cluster is concerned; another member
    may make it if that is not only the one that gets it.
    """

    method: str
    path: str
    needs: Role
    also: tuple[Role, ...]
    answers: Mapping[HTTPStatus, tuple[Content, ...]]
    problems: frozenset[HTTPStatus]
    body: Any
    query: type[Struct] | None
    handler: str
    summary: str
    late_body: bool = False
    reach: Reach = Reach.ASKED

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters in the path."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def refusals(self) -> frozenset[HTTPStatus]:
        """Return all statuses with which the call may be refused."""
        refusals = {*self.problems, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
        if self.needs is not Role.ANYONE:
            refusals.add(HTTPStatus.UNAUTHORIZED)
        if self.parameters or self.query:
            refusals.add(HTTPStatus.UNPROCESSABLE_ENTITY)
        if self.reach in (Reach.MASTER, Reach.ALL):
            refusals.add(HTTPStatus.SERVICE_UNAVAILABLE)  # it could not be passed on, or not to all
        if self.reach is not Reach.ASKED:
            refusals.add(HTTPStatus.MISDIRECTED_REQUEST)  # it was passed on, and is for another member
        if self.body is not None:
            refusals |= {
                HTTPStatus.BAD_REQUEST,
                HTTPStatus.REQUEST_TIMEOUT,
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                HTTPStatus.UNPROCESSABLE_ENTITY,
            }
        return frozenset(refusals)

    def rule(self, group: object) -> Rule:
        """Return werkzeug's rule, whose endpoint is this declaration and the method of `group` that carries it out."""

        def variable(match: re.Match[str]) -> str:
            converter = match[1] if match[1] in CONVERTERS else "default"
            return f"<{converter}:{match[1]}>"

        endpoint = (self, getattr(group, self.handler))
        return Rule(_PARAMETER.sub(variable, self.path), methods=[self.method], endpoint=endpoint)


def operation(
    method: str,
    path: str,
    needs: Role,
    answers: Mapping[HTTPStatus, Any] | Any,
    problems: tuple[HTTPStatus, ...] = (),
    body: Any = None,
    query: type[Struct] | None = None,
    also: tuple[Role, ...] = (),
    late_body: bool = False,
    reach: Reach = Reach.ASKED,
) -> Callable[[Handler], Handler]:
    """Declare the decorated method as a call.

    `answers` has types encoded as JSON, or contents, by status; a type alone is the answer of 200.
    """
    by_status = answers if isinstance(answers, Mapping) else {HTTPStatus.OK: answers}
    contents = {
        status: answer if isinstance(answer, tuple) else (Content(answer),) for status, answer in by_status.items()
    }

    def declare(handler: Handler) -> Handler:
        declared = Operation(
            method,
            path,
            needs,
            also,
            contents,
            frozenset(problems),
            body,
            query,
            handler.__name__,
            " ".join((handler.__doc__ or "").split()),
            late_body,
            reach,
        )
        handler.operation = declared  # type: ignore[attr-defined]
        return handler

    return declare


def operations_of(group: type) -> list[Operation]:
    """Return the calls that a class declares, in order."""
    return [member.operation for member in vars(group).values() if hasattr(member, "operation")]
