# SPDX-License-Identifier: Apache-2.0
"""A real Chromium, whose pages are watched: they may ask no other host, and report no error that is not announced."""

import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from topologies.waiting import patient

CHROMIUM = "/usr/bin/chromium"
TIMEOUT = patient(60.0)  # seconds, for whatever a page shall show

expect.set_options(timeout=TIMEOUT * 1000)


class Browser:
    """A context manager; it runs in the network namespace in which it is entered."""

    def __init__(self, url: str) -> None:
        """url: of the one host that pages may ask, without a path."""
        self.url = url
        self._playwright = sync_playwright()
        self.asked: list[str] = []
        self._errors: list[str] = []

    def __enter__(self) -> "Browser":
        self._chromium = self._playwright.__enter__().chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chromium.close()
        self._playwright.__exit__(kind, error, trace)

    def open(self, path: str, **options: Any) -> Page:
        """Return a new page, loaded, in a window of its own. options: of Playwright's new_context, such as viewport."""
        context = self._chromium.new_context(**options)
        context.set_default_timeout(TIMEOUT * 1000)
        page = context.new_page()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self._errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.goto(f"{self.url}{path}")
        return page

    def assert_well(self, allow: Sequence[str] = ()) -> None:
        """Fail if a page has asked another host, or reported an error that no regular expression in `allow` matches."""
        elsewhere = [url for url in self.asked if not url.startswith((f"{self.url}/", "data:"))]
        assert self.asked, "no page was opened"
        assert not elsewhere, f"pages asked {elsewhere}"
        unexpected = [text for text in self._errors if not any(re.search(pattern, text) for pattern in allow)]
        assert not unexpected, "\n".join(["pages reported", *unexpected])
