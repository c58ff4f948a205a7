# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser, on the whole system in Mininet: what it shows is what the API says, and why."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import TIMEOUT, Browser
from tests.support.scrape import Scrape
from tests.support.waiting import wait_for
from topologies import addresses as at
from topologies.deployment import HOME, REST, Deployment
from topologies.roaming import RoamingTopo
from topologies.testbed import Testbed
from topologies.tokens import OPERATOR
from topologies.traffic import Traffic

LEASE = 10  # seconds
LIFETIME = 3600  # seconds: no refresh adds to what the API explains between looking there and at the page
# What a browser says of every answer of this kind; the page says it in its own words.
NO_TOKEN = r"status of 40[13]"
# Where screenshots go that the documentation has; by default they are only made where somebody wants to see them.
SCREENSHOTS = os.environ.get("HOAFLOW_SCREENSHOTS")
SHOWN_AS = {"active": "Direct", "partial": "Mixed", "pending": "Via home agent", "held": "Via home agent"}
PATH_WORDS = {"direct": "Direct", "mixed": "Mixed", "home-agent": "Via home agent", "home": "No binding"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Start everything. No log may have an error in the end."""
    allow = [r"connection (dropped|closed|failed)"]
    with Testbed(RoamingTopo(), tmp_path_factory.mktemp("dashboard") / "logs") as bed:
        deployment = Deployment(bed, lifetime=LIFETIME, lease=LEASE)
        deployment.start_anchor()
        deployment.start_mobile_node()
        deployment.start_offload()
        yield deployment
        assert bed.errors(allow) == []


@pytest.fixture(scope="module")
def chromium(system: Deployment) -> Iterator[Browser]:
    """Provide a browser on the management network."""
    with Browser(REST) as browser:
        yield browser
        browser.assert_well(allow=[NO_TOKEN])


@pytest.fixture
def page(system: Deployment, chromium: Browser) -> Iterator[Page]:
    """Provide the page with the operator's token, while the mobile node is on foreign link 1 and its traffic direct."""
    go(system, 1)
    page = chromium.open("/", viewport={"width": 1280, "height": 1050})
    give_token(page, system.tokens.file(OPERATOR).read_text())
    yield page
    page.context.close()
    restore(system)


def restore(system: Deployment) -> None:
    """Undo what a test that failed has left undone."""
    for router in system.rest("GET", "/v1/routers?draining=yes")["routers"]:
        system.rest("DELETE", f"/v1/routers/{router['dpid']}/drain")
    if "bridge" not in system.bed.programs:
        system.start_bridge()


def go(system: Deployment, link: int) -> None:
    """Move the mobile node to a foreign link, and wait until its traffic goes direct."""
    system.attach(link)
    wait_for(f"the binding is active on link {link}", lambda: is_direct(system, link))


def is_direct(system: Deployment, link: int) -> bool:
    """Tell whether the binding is active with link's care-of address."""
    binding = system.binding()
    return bool(binding and binding["state"] == "active" and binding["care_of_address"] == at.care_of_address(link))


def give_token(page: Page, token: str) -> None:
    """Types a token where the page asks for one."""
    page.get_by_label("Token", exact=True).fill(token)
    page.get_by_role("button", name="Continue").click()


def choose(page: Page) -> None:
    """Ask why the mobile node's traffic goes as it does."""
    page.get_by_role("button", name=at.HOME_ADDRESS).click()


def shown_bindings(page: Page) -> list[dict[str, str]]:
    """Return the table's rows."""
    read = """(rows, names) => rows.map(row => Object.fromEntries([
        ["home_address", row.querySelector("button").innerText],
        ...names.map(name => [name, row.querySelector(`[data-of=${name}]`).textContent]),
    ]))"""
    names = ["care_of_address", "home_agent", "state", "path"]
    rows: list[dict[str, str]] = page.locator("#bindings-rows tr").evaluate_all(read, names)
    return rows


def held_bindings(system: Deployment) -> list[dict[str, str]]:
    """Return the rows that the API's answer should give."""
    members = ("home_address", "care_of_address", "home_agent", "state")
    return [
        {**{name: binding[name] for name in members}, "path": SHOWN_AS[binding["state"]]}
        for binding in system.rest("GET", "/v1/bindings")["bindings"]
    ]


def explanation(system: Deployment) -> Any:
    """Return why the mobile node's traffic goes as it does, by the API."""
    return system.rest("GET", f"/v1/bindings/{at.HOME_ADDRESS}/explain")


def sentence(text: str) -> str:
    """As the page writes it."""
    return text[0].upper() + text[1:]


def assert_explained(page: Page, system: Deployment) -> None:
    """Check that the page says all that the API's explanation does."""
    said = explanation(system)
    expect(page.locator("#why-reason")).to_have_text(f"{sentence(said['reason'])}.")
    expect(page.locator("#why-path")).to_contain_text(PATH_WORDS[said["path"]])
    expect(page.locator("#why-change li")).to_have_text([sentence(each) for each in said["would_change"]])
    on_routers = page.locator("#why-routers tr td:nth-child(2)")
    expect(on_routers).to_have_text([sentence(each["reason"]) for each in said["routers"].values()])
    results = page.locator("#why-updates tr td:nth-child(2)")
    expect(results).to_have_count(len(said["updates"]))
    for shown, update in zip(results.all(), reversed(said["updates"]), strict=True):
        expect(shown).to_contain_text(f"{update['result']} by {update['source']}")


def assert_drawn(page: Page, system: Deployment) -> None:
    """Check that the picture shows the path that the API explains, to the mobile node's link."""
    path = explanation(system)["path"]
    ways = {"direct": {"direct"}, "home-agent": {"home-agent"}, "mixed": {"direct", "home-agent"}}[path]
    lines = page.locator(f"#picture .leg[data-home-address='{at.HOME_ADDRESS}'][data-rank='chosen']")
    expect(lines.first).to_have_attribute("data-path", path)
    wait_for("the lines are those of the path", lambda: set(data(lines, "way")) == ways)
    binding = system.binding()
    assert binding is not None
    link = next(link for link in (1, 2) if at.care_of_address(link) == binding["care_of_address"])
    expect(lines.first).to_have_attribute("data-link", at.foreign_link(link))
    in_words = {"direct": "direct", "mixed": "partly direct", "home-agent": "via home agent"}[path]
    expect(page.locator("#picture-words")).to_contain_text(f"at {at.care_of_address(link)}: {in_words}")


def data(lines: Locator, name: str) -> list[str]:
    """Return one of the data attributes of lines in the picture, of all in one moment: the page draws it anew."""
    found: list[str] = lines.evaluate_all("(lines, name) => lines.map(line => line.dataset[name] ?? '')", name)
    return found


def screenshot(page: Page, name: str, scheme: Literal["light", "dark"] = "light", top: str = "header") -> None:
    """Write a picture for the documentation, if that is wanted, from `top` on."""
    if SCREENSHOTS:
        page.emulate_media(color_scheme=scheme)
        page.evaluate("top => document.querySelector(top).scrollIntoView()", top)
        page.screenshot(path=Path(SCREENSHOTS) / f"dashboard-{name}.png")


def marks(text: str) -> str:
    """Return a path as the table shows it, without its mark."""
    return text.partition(" ")[2]


def same(page: Page, system: Deployment) -> bool:
    """Tell whether page and API say the same of all bindings."""
    shown = [{**row, "path": marks(row["path"])} for row in shown_bindings(page)]
    return shown == held_bindings(system) != []


def test_it_shows_what_the_api_says_before_and_after_a_handover(page: Page, system: Deployment) -> None:
    choose(page)
    for link in (1, 2):
        go(system, link)
        care_of_address = page.locator("#bindings-rows [data-of=care_of_address]")
        expect(care_of_address).to_have_text(at.care_of_address(link))
        wait_for("page and API say the same", lambda: same(page, system))
        expect(page.locator("#why-reason")).to_contain_text(at.care_of_address(link))
        assert_explained(page, system)
        assert_drawn(page, system)
    moved = page.locator("#events li", has_text=f"has moved to {at.care_of_address(2)}")
    expect(moved).to_have_count(1)


def test_it_shows_what_the_traffic_spares_the_home_agent(page: Page, system: Deployment, tmp_path: Path) -> None:
    choose(page)
    saved = "Now [1-9].* to mobile nodes, [1-9].* from mobile nodes"
    traffic = Traffic(system.bed, tmp_path)
    expect(page.locator("#saved-chart-words")).to_have_text(re.compile(saved))
    expect(page.locator("#traffic-chart-words")).to_have_text(re.compile(saved))
    expect(page.locator("#bindings-rows [data-of=rate]")).to_have_text(re.compile("^[1-9]"))
    # The CN's router takes the packets to the mobile node off the home agent's path, and its link's those from it.
    lines = page.locator("#picture .leg[data-busy=true]")
    wait_for(
        "packets are drawn where the switches count them",
        lambda: sorted(data(lines, "router")) == dpids(system, "r1", "r2"),
    )
    screenshot(page, "direct")
    traffic.stop()
    # The page rounds to three digits.
    wait_for(
        "all that was carried is shown", lambda: math.isclose(shown_total(page), saved_total(system), rel_tol=0.01)
    )
    wait_for("it is part of the history", lambda: history_total(system) == saved_total(system))
    page.reload()
    at_most = r"Now 0 .* Peak since [\d:]+: [1-9].* to mobile nodes, [1-9].* from mobile nodes"
    expect(page.locator("#saved-chart-words")).to_have_text(re.compile(at_most))


def dpids(system: Deployment, *routers: str) -> list[str]:
    """Datapath ids as the API has them."""
    return [system.bed.network[router].dpid for router in routers]


def shown_total(page: Page) -> float:
    """Return how many bytes the page says that the routers have carried."""
    figure, unit = page.locator("#saved-total").inner_text().split()
    return float(figure) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit]


def saved_total(system: Deployment) -> float:
    """Return what the home agent was spared, by the metrics."""
    scraped = Scrape(system.client.request("GET", "/metrics", (TIMEOUT, TIMEOUT)).text)
    return sum(
        scraped("hoaflow_offloaded_bytes_total", router=dpid, direction=direction)
        for dpid in dpids(system, *system.routers)
        for direction in ("downlink", "uplink")
    )


def history_total(system: Deployment) -> float:
    """Return how many bytes had been carried at the end of the history."""
    last = system.rest("GET", "/v1/traffic?limit=1000")["samples"][-1]
    return float(last["downlink"] + last["uplink"])


def test_it_says_why_traffic_goes_via_the_home_agent(page: Page, system: Deployment) -> None:
    choose(page)
    routers = [router["dpid"] for router in system.rest("GET", "/v1/routers")["routers"]]
    for dpid in routers:
        system.rest("PUT", f"/v1/routers/{dpid}/drain")
    expect(page.locator("#why-reason")).to_contain_text("the router is drained")
    assert_explained(page, system)
    assert_drawn(page, system)
    expect(page.locator("#routers")).to_contain_text("connected, drained")
    for dpid in routers:
        system.rest("DELETE", f"/v1/routers/{dpid}/drain")
    expect(page.locator("#why-path")).to_contain_text("Direct")
    system.bed.kill("bridge")
    expect(page.locator("#why-reason")).to_contain_text("has not renewed its lease")
    assert_explained(page, system)
    assert_drawn(page, system)
    expect(page.locator("#agents")).to_contain_text("has lapsed")
    expect(page.locator("#events .trouble")).to_contain_text(["lease-lapsed"])
    wait_for("page and API say the same", lambda: same(page, system))
    screenshot(page, "via-home-agent", "dark")
    system.start_bridge()
    expect(page.locator("#why-path")).to_contain_text("Direct")
    assert_drawn(page, system)


def test_it_says_that_a_mobile_node_is_at_home(page: Page, system: Deployment) -> None:
    system.attach(HOME)
    expect(page.locator("#bindings-none")).to_have_text("The controller has no bindings.")
    page.get_by_label("Home address or prefix").fill("2001:DB8:99:0::100")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#why-path")).to_contain_text("No binding")
    assert_explained(page, system)


def test_it_asks_for_a_token_and_forgets_it(page: Page, system: Deployment) -> None:
    expect(page.locator("#bindings-rows tr")).to_have_count(1)
    page.get_by_role("button", name="Forget token").click()
    dialog = page.get_by_role("dialog", name="This controller asks for a token")
    expect(dialog).to_be_visible()
    expect(page.locator("#bindings-rows tr")).to_have_count(0)
    give_token(page, "none of its tokens")
    expect(dialog.get_by_role("alert")).to_have_text("this token is not known here")
    give_token(page, system.tokens.file("r1").read_text())
    expect(dialog.get_by_role("alert")).to_contain_text("is for router")
    give_token(page, system.tokens.file(OPERATOR).read_text())
    expect(dialog).to_be_hidden()
    expect(page.locator("#bindings-rows tr")).to_have_count(1)


def test_it_can_be_used_by_keyboard_alone(system: Deployment, chromium: Browser) -> None:
    go(system, 1)
    page = chromium.open("/")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.type(system.tokens.file(OPERATOR).read_text().strip())
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name=at.HOME_ADDRESS)).to_be_visible()
    page.locator("body").press("Tab")
    expect(page.get_by_role("link", name="Skip to the mobile nodes")).to_be_focused()
    page.keyboard.press("Enter")
    chosen = page.get_by_role("button", name=at.HOME_ADDRESS)
    page.keyboard.press("Tab")
    expect(chosen).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#why-reason")).to_contain_text("straight to")
    expect(chosen).to_have_attribute("aria-pressed", "true")
    go(system, 2)
    expect(page.locator("#why-reason")).to_contain_text(at.care_of_address(2))
    expect(chosen).to_be_focused()
    page.context.close()


@pytest.mark.parametrize(("scheme", "top"), [("light", "header"), ("dark", "#why")])
def test_it_fits_a_phone(system: Deployment, chromium: Browser, scheme: Literal["light", "dark"], top: str) -> None:
    go(system, 1)
    page = chromium.open("/", viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    give_token(page, system.tokens.file(OPERATOR).read_text())
    choose(page)
    expect(page.locator("#why-reason")).to_contain_text("straight to")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    ground, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (luminance(ground) < luminance(text)) == (scheme == "dark")
    screenshot(page, f"phone-{scheme}", scheme, top)
    page.context.close()


def luminance(colour: str) -> int:
    """How light a colour is, roughly; as the browser writes it: rgb(r, g, b)."""
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
