# SPDX-License-Identifier: Apache-2.0
"""Check that the OpenAPI document declares an answer: its status, media type and schema."""

import copy
import ipaddress
import json
import re
from functools import cache
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator, FormatChecker

from controller.rest.api import OPERATIONS
from controller.rest.openapi import document
from controller.rest.operations import CONVERTERS

FORMATS = FormatChecker()


@FORMATS.checks("ip-address", raises=ValueError)
def _is_ip_address(text: object) -> bool:
    if isinstance(text, str):
        ipaddress.ip_address(text)
    return True


@FORMATS.checks("home-address", raises=ValueError)
def _is_home_address(text: object) -> bool:
    if isinstance(text, str):
        ipaddress.ip_network(text)
    return True


@cache
def _strict_document() -> dict[str, Any]:
    """Return the document, with no member allowed in any answer that it does not name."""
    strict = copy.deepcopy(document(OPERATIONS))
    for schema in strict["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return strict


@cache
def _paths() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    found = []
    for path, item in _strict_document()["paths"].items():
        pattern = re.sub(r"\\{(\w+)\\}", lambda name: _parameter(name[1]), re.escape(path))
        found.append((re.compile(pattern), item))
    # As in the API's own routing, the path with fewer parameters comes first.
    return sorted(found, key=lambda pair: pair[0].pattern.count("(?:"))


def _parameter(name: str) -> str:
    return f"(?:{CONVERTERS[name].regex if name in CONVERTERS else '[^/]+'})"


def assert_declared(method: str, target: str, status: int, content_type: str, content: bytes) -> None:
    """Fail when the document does not declare this answer to `method` on `target` (path and query)."""
    path = unquote(target.partition("?")[0]).rstrip("/") or "/"
    what = f"{method} {target} answered {status} {content_type}: {content[:300]!r}"
    item = next((item for pattern, item in _paths() if pattern.fullmatch(path)), None)
    if method == "OPTIONS" and item is not None:
        assert (status, content) == (204, b""), what
        return
    if item is None or (method.lower() not in item and not (method == "HEAD" and "get" in item)):
        # Or the gate refuses it beforehand.
        assert status in (404 if item is None else 405, 403, 429), what
        contents = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    else:
        declared = item["get" if method == "HEAD" else method.lower()]["responses"]
        assert str(status) in declared, f"{what}; declared are {', '.join(declared)}"
        contents = declared[str(status)].get("content")
        if contents is None:
            assert content == b"", what
            return
    media_type = content_type.partition(";")[0]
    assert media_type in contents, f"{what}; declared are {', '.join(contents)}"
    if method == "HEAD":
        assert content == b"", what
    elif media_type.endswith("json"):
        resolvable = {**contents[media_type]["schema"], "components": _strict_document()["components"]}
        found = Draft202012Validator(resolvable, format_checker=FORMATS).iter_errors(json.loads(content))
        errors = [f"{error.json_path}: {error.message}" for error in found]
        assert not errors, f"{what}: {errors}"
