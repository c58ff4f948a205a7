# SPDX-License-Identifier: Apache-2.0
"""The page at /docs in a real browser: it shows every call, can make them, and asks no other host for anything."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from controller.rest.api import OPERATIONS
from tests.support.browser import Browser
from tests.support.controller import Controller
from tests.support.ovs import Ovs
from tests.support.tokens import write_tokens


@pytest.fixture
def page(ovs: Ovs, controller: Controller) -> Iterator[Page]:
    """Provide the page, loaded. It must have asked only the controller, and reported no error."""
    with ovs.inside(), Browser(controller.url) as browser:
        yield browser.open("/docs")
        browser.assert_well()


def test_every_call_is_shown_and_can_be_tried(page: Page) -> None:
    expect(page.locator(".opblock")).to_have_count(len(OPERATIONS))
    health = page.locator(".opblock", has_text="/healthz")
    health.locator(".opblock-summary").click()
    health.get_by_role("button", name="Try it out").click()
    health.get_by_role("button", name="Execute").click()
    expect(health.locator(".live-responses-table")).to_contain_text('"status": "ok"')


def test_a_token_is_asked_for_where_there_are_tokens(ovs: Ovs, controller: Controller, tmp_path: Path) -> None:
    def offered() -> int:
        with ovs.inside(), Browser(controller.url) as browser:
            page = browser.open("/docs")
            expect(page.locator(".opblock").first).to_be_visible()
            return page.get_by_role("button", name="Authorize").count()

    assert offered() == 0
    controller.kill()
    with Controller(ovs, tmp_path, f"tokens_file = {write_tokens(tmp_path)}"):
        assert offered() == 1


def test_no_other_file_is_served(controller: Controller) -> None:
    for name in ("LICENSE", "..%2fapi.py", "index.html%00", "swagger-ui"):
        assert controller.call("GET", f"/docs/{name}").status == 404, name
    assert controller.call("GET", "/docs/../openapi.json").status == 404
