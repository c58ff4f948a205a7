# SPDX-License-Identifier: Apache-2.0
"""The documentation builds without a warning, its links lead somewhere, and no page needs another host."""

import os
import re
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path

import pytest

from controller.access.tokens import read_tokens
from tests.support.checkout import CHECKOUT

# What a browser fetches by itself to show a page; a link that a reader may follow is none.
FETCHED = {
    "img": "src",
    "script": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}
ELSEWHERE = re.compile(r"^(https?:)?//")
# What says why a binding does not go direct: the controller's core, and a bridge of one that it withholds.
SAY_WHY = ("controller/core", "ha_bridge")


class Fetched(HTMLParser):
    """Collects what a page has the browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One element."""
        given = dict(attrs)
        if tag == "link" and given.get("rel") not in ("canonical", "alternate"):
            self.urls.append(given.get("href") or "")
        elif tag in FETCHED:
            self.urls.append(given.get(FETCHED[tag]) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide the site, built as `make docs` builds it."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", directory],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return directory


def test_no_page_has_a_browser_fetch_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text())
        assert parser.urls, page
        assert not [url for url in parser.urls if ELSEWHERE.match(url)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_every_page_is_in_the_navigation(site: Path) -> None:
    navigation = (CHECKOUT / "mkdocs.yml").read_text()
    missing = [page.name for page in (CHECKOUT / "docs").glob("*.md") if page.name not in navigation]
    assert not missing, "add them to nav in mkdocs.yml"


@pytest.mark.parametrize("page", ["index.md", "umip.md", "troubleshooting.md", "install.md"])
def test_commands_named_in_the_docs_exist(page: str) -> None:
    """Every option that a page shows of our commands is one that the command has."""
    text = (CHECKOUT / "docs" / page).read_text()
    known = (CHECKOUT / "docs/cli.md").read_text()
    for line in re.findall(r"(?:hoaflow|ha-bridge|hoaflow-router|hoaflow-ha|hoaflow-controller) [^`|\n]*", text):
        for option in re.findall(r"--[a-z-]+", line):
            assert re.search(rf"{option}\b", known), f"{page}: {line!r} has {option}, which no command knows"


def indented(page: str, words: str) -> str:
    """Return the first indented block of a page that has these words, without the indentation."""
    text = (CHECKOUT / "docs" / page).read_text()
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
    return textwrap.dedent(next(block for block in blocks if words in block))


def test_the_cluster_page_makes_each_file_that_it_uses(tmp_path: Path) -> None:
    (tmp_path / "scripts").symlink_to(CHECKOUT / "scripts")
    commands = indented("cluster.md", "scripts/pki ca ca")
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, check=True, timeout=120)
    made = {path.name for path in (tmp_path / "ca").iterdir()}
    assert len(read_tokens(tmp_path / "ca/tokens.toml")) == 6
    after = (CHECKOUT / "docs/cluster.md").read_text().partition("### etcd")[2].partition("## Call any member")[0]
    used = re.findall(r"(?:/etc/(?:hoaflow|etcd|openvswitch)|\bca)/([\w.-]+\.(?:crt|key|token|password|toml))", after)
    assert {"router-1.crt", "etcd-root.password", "etcd.password", "controller-1.token"} <= set(used)
    assert set(used) <= made, "the page uses files that its commands do not make"


def test_the_reasons_to_look_up_are_what_explain_says() -> None:
    page = (CHECKOUT / "docs/troubleshooting.md").read_text()
    section = page.partition("## One mobile node's traffic")[2].partition("\n## ")[0]
    said = "".join(file.read_text() for folder in SAY_WHY for file in (CHECKOUT / folder).glob("*.py"))
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    looked_up = [reason for row in rows for reason in row.split("`")[1::2]]
    assert len(looked_up) > 15
    unsaid = [part for reason in looked_up for part in re.split("…|[(:]", reason) if part.strip(") ") not in said]
    assert not unsaid, f"docs/troubleshooting.md explains what is never said: {unsaid}"
