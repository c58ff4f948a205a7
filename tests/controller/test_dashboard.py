# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser, where a test plays the bridge and the agent: hostile ones, and many bindings."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from controller.core.events import EVENTS
from controller.rest.calls.pages import DASHBOARD
from tests.support.bench import HOME_ADDRESS, HOME_PREFIX, Bench, binding, registered
from tests.support.browser import Browser
from tests.support.controller import Controller
from tests.support.ovs import Ovs
from tests.support.scrape import Scrape
from tests.support.waiting import wait_for

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
# What a browser says by itself of answers and connections; the page says it in its own words.
REFUSED = r"status of 4(04|22)"
GONE = r"ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|CONNECTION_RESET)"
PAGE_SIZE = 25


@pytest.fixture
def bench(ovs: Ovs, tmp_path: Path) -> Iterator[Bench]:
    """Provide a switch and a registered mobile node, without tokens."""
    with Controller(ovs, tmp_path) as running:
        bench = registered(ovs, running)
        bench.announce(lease=60)
        bench.snapshot(binding())
        yield bench
    running.assert_log_clean()


@pytest.fixture
def page(ovs: Ovs, bench: Bench) -> Iterator[Page]:
    """Provide the page, loaded."""
    with ovs.inside(), Browser(bench.controller.url) as browser:
        page = browser.open("/")
        expect(page.locator("#bindings-rows tr")).to_have_count(1)
        yield page
        browser.assert_well(allow=[REFUSED, GONE])


def test_what_an_agent_says_is_shown_as_it_is(page: Page, bench: Bench) -> None:
    page.get_by_role("button", name=HOME_ADDRESS).click()
    bench.agent(failed=[{"home_address": HOME_ADDRESS, "reason": HOSTILE}])
    for part in ("#why-reason", "#why-routers", "#routers", "#events"):
        expect(page.locator(part)).to_contain_text(HOSTILE)
    assert page.locator("main img, main script").count() == 0
    assert page.title() == "hoaflow"


def test_what_a_bridge_withholds_is_shown_with_its_reason(page: Page, bench: Bench) -> None:
    bench.snapshot({**binding(), "withheld": HOSTILE})
    row = page.locator("#bindings-rows tr")
    expect(row.locator("[data-of=path]")).to_contain_text("Via home agent")
    expect(row.locator("[data-of=state]")).to_have_text("withheld")
    expect(row.locator("[data-of=state]")).to_have_attribute("title", HOSTILE)
    expect(page.locator("#count-detour")).to_have_text("1")
    page.get_by_role("button", name=HOME_ADDRESS).click()
    for part in ("#why-reason", "#events"):
        expect(page.locator(part)).to_contain_text(HOSTILE)
    page.get_by_label("State").select_option("withheld")
    expect(row).to_have_count(1)
    assert page.locator("main img, main script").count() == 0


def test_many_bindings_are_shown_by_page(page: Page, bench: Bench) -> None:
    addresses = [f"2001:db8:99::{number:x}" for number in range(0x100, 0x100 + 2 * PAGE_SIZE + 10)]
    bench.snapshot(*(binding(home_address=address) for address in addresses))
    bench.agent()
    listed = sorted(addresses)
    parts = [listed[start : start + PAGE_SIZE] for start in range(0, len(listed), PAGE_SIZE)]
    shown = page.locator("#bindings-rows button")
    on, back = page.get_by_role("button", name="Next"), page.get_by_role("button", name="Back")
    expect(shown).to_have_text(parts[0])
    for part in parts[1:]:
        on.click()
        expect(shown).to_have_text(part)
    expect(on).to_be_disabled()
    back.click()
    expect(shown).to_have_text(parts[1])
    page.get_by_label("Home address or prefix").fill("2001:db8:99::130/124")
    page.keyboard.press("Enter")
    expect(shown).to_have_text([address for address in listed if address.startswith("2001:db8:99::13")])
    expect(back).to_be_disabled()
    page.get_by_label("State").select_option("held")
    expect(page.locator("#bindings-none")).to_have_text("No binding matches.")
    page.get_by_label("Home address or prefix").fill("2001:db8:99:")
    page.keyboard.press("Enter")
    expect(page.locator("#filter-problem")).to_contain_text("2001:db8:99:")
    expect(page.locator("#count-direct")).to_have_text(str(len(addresses)))


def test_a_mobile_network_is_shown_and_explained_by_any_of_its_addresses(page: Page, bench: Bench) -> None:
    network = "2001:db8:aa:1::/64"
    bench.announce(lease=60, home_prefixes=[HOME_PREFIX, "2001:db8:aa::/48"])
    bench.snapshot(binding(), binding(home_address=network))
    bench.agent()
    page.get_by_role("button", name=network).click()
    expect(page.locator("#why-address")).to_have_text(network)
    expect(page.locator("#picture .chip[data-chosen=true]")).to_contain_text(network)
    page.get_by_label("Home address or prefix").fill("2001:db8:aa:1::5")
    page.keyboard.press("Enter")
    expect(page.locator("#why-address")).to_have_text("2001:db8:aa:1::5")
    expect(page.locator("#why-path")).to_contain_text("Direct")


def test_an_address_is_taken_in_any_form(page: Page) -> None:
    page.get_by_label("Home address or prefix").fill("2001:DB8:99:0::0100")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name=HOME_ADDRESS)).to_have_attribute("aria-pressed", "true")


def test_an_address_that_no_home_prefix_covers_is_said_to_be_none(page: Page) -> None:
    page.get_by_label("Home address or prefix").fill("2001:db8:77::1")
    page.keyboard.press("Enter")
    expect(page.locator("#why-problem")).to_contain_text("2001:db8:77::1")


def test_it_says_when_the_controller_cannot_be_reached_and_goes_on_afterwards(page: Page, bench: Bench) -> None:
    bench.controller.kill()
    banner = page.get_by_role("alert").first
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("The controller can't be reached: no connection. The page shows the state at")
    expect(page.locator("#page")).to_have_attribute("data-stale", "true")
    expect(page.locator("#bindings-rows tr")).to_have_count(1)
    bench.controller.start()
    expect(banner).to_be_hidden()
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    bench.announce()
    bench.snapshot()
    expect(page.locator("#events")).to_contain_text("has sent its binding cache: 0 bindings")


def test_it_asks_nothing_while_nobody_looks(page: Page, bench: Bench) -> None:
    def followers() -> float:
        return Scrape(bench.controller.text("/metrics").body)("hoaflow_event_streams")

    wait_for("it follows the events", lambda: followers() == 1)
    turn = "Object.defineProperty(document, 'visibilityState', {{value: '{}', configurable: true}});"
    turn += "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(turn.format("hidden"))
    wait_for("it does not any more", lambda: followers() == 0)
    bench.snapshot()
    page.evaluate(turn.format("visible"))
    expect(page.locator("#events")).to_contain_text("no longer has a binding")
    expect(page.locator("#bindings-rows tr")).to_have_count(0)


def test_a_link_names_a_mobile_node(page: Page, bench: Bench) -> None:
    page.get_by_role("button", name=HOME_ADDRESS).click()
    expect(page.locator("#why-address")).to_have_text(HOME_ADDRESS)
    page.reload()
    expect(page.locator("#why-address")).to_have_text(HOME_ADDRESS)
    page.evaluate("location.hash = '#home_address=2001:db8:99::7'")
    expect(page.locator("#why-address")).to_have_text("2001:db8:99::7")
    page.evaluate("location.hash = '#home_address=%'")
    page.reload()
    expect(page.locator("#why-problem")).to_contain_text("%")
    expect(page.locator("#bindings-rows tr")).to_have_count(1)


def test_files_are_kept_until_they_change_and_nothing_else_is_served(ovs: Ovs, tmp_path: Path) -> None:
    with Controller(ovs, tmp_path) as controller:
        answer = controller.call("GET", "/")
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        again = controller.call("GET", "/", headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status, again.body) == (304, None)
        assert controller.call("GET", "/dashboard/main.js").headers["ETag"] != answer.headers["ETag"]
        for name in ("LICENSE", "..%2fapp.py", "index.html%00", "uplot"):
            assert controller.call("GET", f"/dashboard/{name}").status == 404, name


def test_every_event_has_words_and_trouble_is_what_the_controller_calls_so() -> None:
    text = (DASHBOARD / "event_words.js").read_text()
    words, _, trouble = text.partition("export const TROUBLE")
    assert set(re.findall(r'^  "?([\w-]+)"?: \(', words, re.MULTILINE)) == {*EVENTS, "reset"}
    trouble = trouble.partition("]")[0]
    assert set(re.findall(r'"([\w-]+)"', trouble)) == {name for name, kind in EVENTS.items() if kind.trouble}
