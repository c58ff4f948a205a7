# SPDX-License-Identifier: Apache-2.0
"""Files that are served as they are: pages, and what they are made of. Nothing in them comes from another host."""

from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

from werkzeug.wrappers import Response

from controller.rest.problems import Problem

MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
# In seconds; files change with the program only.
CACHED_FOR = 3600


class StaticFiles:
    """Files by name, read once."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Raises OSError for a file that can't be read: the installation is not whole. KeyError for one of a kind that
        is not in ``MEDIA_TYPES``."""
        self._files = {path.name: (path.read_bytes(), MEDIA_TYPES[path.suffix]) for path in paths}

    def answer(self, name: str) -> Response:
        """Return a file as an answer. Raises Problem for a name that is none of them."""
        try:
            content, media_type = self._files[name]
        except KeyError:
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no file {name[:100]!r}") from None
        return Response(content, mimetype=media_type, headers={"Cache-Control": f"max-age={CACHED_FOR}"})
