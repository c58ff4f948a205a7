# SPDX-License-Identifier: Apache-2.0
"""Make calls of the REST API over the real core, in process."""

import io
from unittest import mock
from urllib.parse import unquote

from werkzeug.test import run_wsgi_app

from controller.rest.api import OPERATIONS
from controller.rest.openapi import document
from tests.support.conformance import assert_declared
from tests.support.rest_api import Api

DOCUMENT = document(OPERATIONS, tokens=False)
SEPARATOR = b"\n---\n"
MOST = 6  # calls of one input
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}


def requests(data: bytes) -> None:
    """Make calls, one after the other: `METHOD TARGET`, and the body in the next lines.

    Each answer is declared by OpenAPI and is no 500.
    """
    with mock.patch("controller.rest.api.document", return_value=DOCUMENT):  # to make it takes half of the time
        api = Api()
    for call in data.split(SEPARATOR)[:MOST]:
        line, _, body = call.partition(b"\n")
        method, _, target = line.decode("latin-1").partition(" ")
        path, _, query = target.partition("?")
        if method not in METHODS or not path.startswith("/") or "\0" in path:
            return  # refused with the head
        if path == "/v1/events":
            query = "follow=no"  # else the answer has no end
        if "wait=" in query:
            query = query.replace("wait=", "not=")  # else it comes when the time is over
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "HTTP_HOST": "localhost:8080",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "http",
        }
        answer, status, headers = run_wsgi_app(api.application, environ, buffered=True)
        content = b"".join(answer)
        assert not status.startswith("500"), f"{line!r}: {content!r}"
        assert_declared(method, target, int(status[:3]), headers.get("Content-Type", ""), content)
