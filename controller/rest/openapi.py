# SPDX-License-Identifier: Apache-2.0
"""Make the OpenAPI 3.1 document from the calls' declarations and their structs.

Ours because msgspec makes the schemas, but not the document around them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import UnionType
from typing import Any, get_args

import msgspec
from msgspec import Struct

from controller.access.roles import Role
from controller.rest import problems
from controller.rest.operations import JSON, Content, Operation, PathParameters
from controller.rest.schemas.answers import ProblemDetails

SCHEMES = {"token": {"type": "http", "scheme": "bearer", "description": "A token of the tokens file."}}
DESCRIPTION = (
    "Takes the data traffic of Mobile IPv6 off the home agent. Refusals are RFC 9457 problem details;"
    " lists are paged by `limit` and `cursor`."
)
VERSION = "1"

Json = dict[str, Any]


def document(operations: Iterable[Operation], tokens: bool = True) -> Json:
    """Return the OpenAPI document of these calls, ready for JSON; `tokens`: calls need a token."""
    listed = list(operations)
    types = list(dict.fromkeys(_types(listed)))
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    known = Schemas(dict(zip(types, schemas, strict=True)), components)
    paths: dict[str, Json] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, known, tokens)
    # Structs of parameters are shown where the parameters are.
    parameters = {PathParameters.__name__, *(each.query.__name__ for each in listed if each.query)}
    shown = {name: schema for name, schema in components.items() if name not in parameters}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hoaflow",
            "version": VERSION,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": shown, **({"securitySchemes": SCHEMES} if tokens else {})},
    }


@dataclass(frozen=True, slots=True)
class Schemas:
    """Hold the schemas of all types: `references` by type, and the `components` that they lead to."""

    references: Mapping[type, Json]
    components: Mapping[str, Json]

    def of(self, type_: Any) -> Json:
        """Return the schema of a type, or of a union of types."""
        schemas = [self.references[alternative] for alternative in _alternatives(type_)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def members(self, struct: type[Struct]) -> Iterable[tuple[str, bool, Json]]:
        """Yield the members of a struct: name, whether it is required, and schema."""
        component = self.components[struct.__name__]
        for name, schema in component["properties"].items():
            yield name, name in component.get("required", ()), schema


def _types(operations: list[Operation]) -> Iterable[type]:
    """Yield every type that needs a schema."""
    yield from (ProblemDetails, PathParameters)
    for operation in operations:
        yield from () if operation.query is None else (operation.query,)
        yield from () if operation.body is None else _alternatives(operation.body)
        for contents in operation.answers.values():
            for content in contents:
                yield from _alternatives(content.type)


def _alternatives(type_: Any) -> tuple[type, ...]:
    """Return the types of a union, or any other type by itself."""
    return get_args(type_) if isinstance(type_, UnionType) else (type_,)


def _operation(operation: Operation, known: Schemas, tokens: bool) -> Json:
    summary, _, rest = operation.summary.partition(". ")
    described: Json = {
        "operationId": operation.handler,
        "summary": summary.rstrip("."),
        "description": rest,
        "tags": [_tag(operation.path)],
        "parameters": [*_path_parameters(operation, known), *_query_parameters(operation, known)],
        "responses": {
            **{str(int(status)): _answer(status, contents, known) for status, contents in operation.answers.items()},
            **{str(int(status)): _refusal(status, known) for status in sorted(operation.refusals)},
        },
    }
    if tokens:
        described["security"] = [{"token": [role.value]} for role in _roles(operation)]
    if operation.body is not None:
        content = {JSON: {"schema": known.of(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _roles(operation: Operation) -> Iterable[Role]:
    """Yield the roles that may make a call besides an admin's; none if it needs no token."""
    if operation.needs is not Role.ANYONE:
        yield operation.needs
    yield from operation.also


def _tag(path: str) -> str:
    """Return the subject of a call: `bindings` for `/v1/bindings/…`, `controller` for paths without version."""
    _, first, *rest = path.split("/")
    return rest[0] if first == "v1" and rest else "controller"


def _path_parameters(operation: Operation, known: Schemas) -> Iterable[Json]:
    schemas = {name: schema for name, _, schema in known.members(PathParameters)}
    return ({"name": name, "in": "path", "required": True, "schema": schemas[name]} for name in operation.parameters)


def _query_parameters(operation: Operation, known: Schemas) -> Iterable[Json]:
    for name, required, schema in known.members(operation.query) if operation.query else ():
        yield {"name": name, "in": "query", "required": required, "schema": schema}


def _answer(status: HTTPStatus, contents: tuple[Content, ...], known: Schemas) -> Json:
    if not contents:
        return {"description": status.phrase}
    by_media_type = {content.media_type: {"schema": known.of(content.type)} for content in contents}
    return {"description": status.phrase, "content": by_media_type}


def _refusal(status: HTTPStatus, known: Schemas) -> Json:
    return _answer(status, (Content(ProblemDetails, problems.MEDIA_TYPE),), known)
