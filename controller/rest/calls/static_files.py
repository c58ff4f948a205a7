# SPDX-License-Identifier: Apache-2.0
"""Files that are served as they are: pages, and what they are made of. Nothing in them comes from another host."""

import hashlib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from werkzeug.wrappers import Request, Response

from controller.rest.operations import Content
from controller.rest.problems import Problem

MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
# What a call that gives such a file may answer besides: the client has it already.
CONDITIONAL: Mapping[HTTPStatus, tuple[Content, ...]] = {HTTPStatus.NOT_MODIFIED: ()}


class _File(NamedTuple):
    content: bytes
    media_type: str
    tag: str


class StaticFiles:
    """Files by name, read once."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Raises OSError for a file that can't be read: the installation is not whole. KeyError for one of a kind that
        is not in ``MEDIA_TYPES``."""
        self._files = {path.name: _read(path) for path in paths}

    def answer(self, request: Request, name: str) -> Response:
        """Return a file as an answer. Raises Problem for a name that is none of them.

        Clients may keep it, but have to ask whether it is still the same: the files of a page go together, and a new
        version of the program changes several (RFC 9110 section 13.1.2).
        """
        try:
            file = self._files[name]
        except KeyError:
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no file {name[:100]!r}") from None
        response = Response(file.content, mimetype=file.media_type, headers={"Cache-Control": "no-cache"})
        response.set_etag(file.tag)
        response.make_conditional(request)
        return response


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, MEDIA_TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:32])
