# SPDX-License-Identifier: Apache-2.0
"""The API's own description: a valid OpenAPI 3.1 document that says what requests are taken and what is answered."""

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from controller.rest.api import OPERATIONS
from controller.rest.openapi import document
from tests.support.conformance import assert_declared

BINDING = b'{"home_address": "2001:db8:99::100", "state": "removed"}'


def test_the_document_is_openapi_3_1() -> None:
    described = document(OPERATIONS)
    assert described["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(described).validate()


def test_calls_have_names_of_their_own_and_say_what_they_do() -> None:
    names = [operation.handler for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(operation.summary for operation in OPERATIONS)


@pytest.mark.parametrize(
    ("method", "target", "status", "content_type", "content"),
    [
        ("GET", "/healthz", 200, "application/json", b'{"status": "well"}'),
        ("GET", "/healthz", 200, "application/json", b'{"status": "ok", "more": 1}'),
        ("GET", "/healthz", 200, "text/plain", b'{"status": "ok"}'),
        ("GET", "/healthz", 418, "application/json", b'{"status": "ok"}'),
        ("POST", "/healthz", 200, "application/json", b'{"status": "ok"}'),
        ("HEAD", "/healthz", 200, "application/json", b'{"status": "ok"}'),
        ("OPTIONS", "/healthz", 204, "", b"GET"),
        ("GET", "/nowhere", 200, "application/json", b"{}"),
        ("GET", "/v1/bindings/2001:db8:99::/64", 200, "application/json", BINDING),
        ("POST", "/v1/bindings?wait=active", 200, "application/json", BINDING.replace(b"2001", b"gggg")),
    ],
)
def test_an_answer_that_is_not_declared_fails_the_test_that_got_it(
    method: str, target: str, status: int, content_type: str, content: bytes
) -> None:
    with pytest.raises(AssertionError):
        assert_declared(method, target, status, content_type, content)
