# SPDX-License-Identifier: Apache-2.0
"""Decode request bodies and the values in paths and queries; what is wrong is refused with the field's name."""

import re
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

from controller.rest.problems import Problem, wrong_field
from controller.rest.schemas.fields import DATAPATH_ID
from hoaflow.addresses import Prefix, parse_address, parse_prefix

T = TypeVar("T")


def decode_either(body: bytes, union: Any) -> Any:
    """Decode a request body that is one of several structs. Raises Problem as `decode` does.

    The first struct whose required members are all present is taken, otherwise the last: msgspec tells only tagged ones
    apart.
    """
    *first, last = get_args(union) or (union,)
    if first:
        members = decode(body, dict[str, msgspec.Raw])
        last = next((type_ for type_ in first if _required(type_) <= members.keys()), last)
    return decode(body, last)


@lru_cache  # msgspec evaluates the annotations each time, which is a tenth of a POST
def _required(type_: type[Struct]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(type_) if field.required)


def decode(body: bytes | msgspec.Raw, type_: type[T]) -> T:
    """Decode a request body. Raises Problem: 400 if it is not JSON, 422 for a wrong type, value or field."""
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise wrong_field(*split_error(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None


def address_in_path(text: str) -> bytes:
    """Return the address in a request's path. Raises Problem."""
    return parsed("address", text, parse_address)


def prefix_in_path(text: str) -> Prefix:
    """Return the home address or mobile network prefix in a request's path or query. Raises Problem."""
    return parsed("home_address", text, parse_prefix)


def dpid_in_path(text: str) -> int:
    """Return the datapath id in a request's path. Raises Problem."""
    if not DATAPATH_ID.fullmatch(text):
        raise wrong_field("dpid", f"expected a datapath id of up to 16 hexadecimal digits, got {text[:40]!r}")
    return int(text, 16)


def address_filter(name: str, text: str | UnsetType) -> bytes | None:
    """Return the address that a list is filtered by; None if there is no such filter. Raises Problem."""
    return None if text is UNSET else parsed(name, text, parse_address)


def split_error(error: msgspec.ValidationError) -> tuple[str, str]:
    """Split msgspec's ``reason - at `$.path``` into the field's path and the reason."""
    reason, _, path = str(error).partition(" - at `$")
    unknown = re.search(r"unknown field `([^`]*)`|missing required field `([^`]*)`", reason)
    field = path.rstrip("`").lstrip(".")
    if unknown:
        name = unknown.group(1) or unknown.group(2)
        field = f"{field}.{name}" if field else name
    return field or "body", reason


def parsed(field: str, text: str, parse: Callable[[str], T]) -> T:
    """Return the value of a field's text. Raises Problem if `parse` raises ValueError."""
    try:
        return parse(text)
    except ValueError as error:
        raise wrong_field(field, str(error)) from None
