# SPDX-License-Identifier: Apache-2.0
"""How a call is declared: once, where it is carried out. Routing, access control and OpenAPI are made from that.

``{name}`` in a path is one of ``PathParameters``; the handler gets its text by name, after the request.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct
from werkzeug.routing import BaseConverter, Rule

from controller.access.roles import Role
from controller.rest.schemas.fields import DatapathId, HomeAddress, Ipv6Address

JSON = "application/json"
_PARAMETER = re.compile(r"\{(\w+)\}")

Handler = TypeVar("Handler", bound=Callable[..., Any])


class HomeAddressConverter(BaseConverter):
    """A home address, or a prefix with its slash as it is or as %2F, which WSGI does not tell apart."""

    regex = r"[^/]+(?:/[0-9]+)?"
    part_isolating = False


class PathParameters(Struct):
    """The parameters that paths have, each with its type."""

    address: Ipv6Address
    home_address: HomeAddress
    dpid: DatapathId
    file: Annotated[str, Meta(description="The name of a file.")]


# How werkzeug finds those parameters in a path that are more than one part of it.
CONVERTERS: Mapping[str, type[BaseConverter]] = {"home_address": HomeAddressConverter}


@dataclass(frozen=True, slots=True)
class Content:
    """An answer's content: a type that is encoded as JSON (several: one of them), or text of another media type."""

    type: Any
    media_type: str = JSON


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One call: what it takes, what it answers, and who may make it.

    With ``own``, a bridge may make it, too, and gets what is its own. ``answers`` by status: one of these contents, no
    content if there are none. ``problems`` are the refusals of its own; those that follow from the rest of the
    declaration are in ``refusals``. ``body`` is a struct, or a union of structs, told apart by their required members.
    ``handler`` is the name of the method that carries it out; its docstring is the description. With ``late_body``, it
    gets a function that reads the body.
    """

    method: str
    path: str
    needs: Role
    own: bool
    answers: Mapping[HTTPStatus, tuple[Content, ...]]
    problems: frozenset[HTTPStatus]
    body: Any
    query: type[Struct] | None
    handler: str
    summary: str
    late_body: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters in its path."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def refusals(self) -> frozenset[HTTPStatus]:
        """Every status that it is refused with."""
        refusals = {*self.problems, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
        if self.needs is not Role.ANYONE:
            refusals.add(HTTPStatus.UNAUTHORIZED)
        if self.parameters or self.query:
            refusals.add(HTTPStatus.UNPROCESSABLE_ENTITY)
        if self.body is not None:
            refusals |= {
                HTTPStatus.BAD_REQUEST,
                HTTPStatus.REQUEST_TIMEOUT,
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                HTTPStatus.UNPROCESSABLE_ENTITY,
            }
        return frozenset(refusals)

    def rule(self, group: object) -> Rule:
        """Return where it is. The endpoint: this declaration, and the method of ``group`` that carries it out."""

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
    own: bool = False,
    late_body: bool = False,
) -> Callable[[Handler], Handler]:
    """Declare the decorated method as a call.

    ``answers`` by status: a type that is encoded as JSON, or contents; a type alone is that of 200.
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
            own,
            contents,
            frozenset(problems),
            body,
            query,
            handler.__name__,
            " ".join((handler.__doc__ or "").split()),
            late_body,
        )
        handler.operation = declared  # type: ignore[attr-defined]
        return handler

    return declare


def operations_of(group: type) -> list[Operation]:
    """Return the calls that a class declares, in its order."""
    return [member.operation for member in vars(group).values() if hasattr(member, "operation")]
