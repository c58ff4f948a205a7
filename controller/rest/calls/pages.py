# SPDX-License-Identifier: Apache-2.0
"""The calls that give the dashboard: a page, and the files that it is made of. What it shows, it asks by the others."""

from http import HTTPStatus
from pathlib import Path

from werkzeug.wrappers import Request, Response

from controller.rest.calls.static_files import CONDITIONAL, StaticFiles
from controller.rest.operations import Content, Role, operation

PAGE = Path(__file__).parents[2] / "dashboard"
FILES = tuple(path for folder in (PAGE, PAGE / "uplot") for path in sorted(folder.glob("*.*")))
MEDIA_TYPES = ("text/javascript", "text/css", "text/html", "image/svg+xml")


class DashboardCalls:
    """The dashboard."""

    def __init__(self) -> None:
        self._files = StaticFiles(FILES)

    @operation("GET", "/", Role.ANYONE, {HTTPStatus.OK: (Content(str, "text/html"),), **CONDITIONAL})
    def get_dashboard(self, request: Request) -> Response:
        """Show the dashboard."""
        return self._files.answer(request, "index.html")

    @operation(
        "GET",
        "/dashboard/{file}",
        Role.ANYONE,
        {HTTPStatus.OK: tuple(Content(str, media_type) for media_type in MEDIA_TYPES), **CONDITIONAL},
        (HTTPStatus.NOT_FOUND,),
    )
    def get_dashboard_file(self, request: Request, file: str) -> Response:
        """Get a file of the dashboard."""
        return self._files.answer(request, file)
