# SPDX-License-Identifier: Apache-2.0
"""docs/rest.md: its lines work, one after the other, on a real controller. tests/tools/test_manual.py has its table."""

import http.client
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from controller.rest.api import OPERATIONS
from tests.support.bench import Bench, registered
from tests.support.checkout import CHECKOUT
from tests.support.conformance import assert_declared
from tests.support.controller import REST_PORT, TIMEOUT, Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

PAGE = CHECKOUT / "docs" / "rest.md"
URL = "http://127.0.0.1:8080"


class Line(NamedTuple):
    """A line with curl. `follows`: the answer has no end."""

    method: str
    target: str
    body: str | None
    follows: bool
    headers: Mapping[str, str]


def lines() -> list[Line]:
    """Return the page's lines with curl. Fails for one that is written otherwise."""
    found = []
    for text in re.findall(r"^    (curl .*)$", PAGE.read_text(), re.MULTILINE):
        method, body, follows, words = None, None, False, iter(shlex.split(text)[1:])
        headers: dict[str, str] = {}
        for word in words:
            if word == "-X":
                method = next(words)
            elif word == "-d":
                body = next(words)
            elif word == "-N":
                follows = True
            elif word == "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            else:
                assert word.startswith(URL), text
                target = word.removeprefix(URL)
        found.append(Line(method or "GET", target, body, follows, headers))
    return found


@pytest.fixture
def bench(ovs: Ovs, tmp_path: Path) -> Iterator[Bench]:
    """Provide a controller with a router and a home agent, as the page says."""
    with Controller(ovs, tmp_path) as running:
        yield registered(ovs, running)
    running.assert_log_clean()


def test_every_call_has_a_line() -> None:
    shown = {(line.method, line.target.partition("?")[0]) for line in lines()}
    for operation in OPERATIONS:
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(operation.path))
        assert any(operation.method == method and re.fullmatch(pattern, path) for method, path in shown), operation.path


def test_every_line_works(ovs: Ovs, bench: Bench) -> None:
    for line in lines():
        if line.target == "/readyz":
            # The page's agent has acknowledged revision 0 alone: ready is who has acknowledged all.
            wait_for("the gates are open", bench.open_gates)
        with ovs.inside():
            connection = http.client.HTTPConnection("127.0.0.1", REST_PORT, timeout=TIMEOUT)
            connection.request(line.method, line.target, line.body, line.headers)
            answer = connection.getresponse()
        content_type = answer.headers.get("Content-Type", "")
        content = answer.readline() if line.follows else answer.read()
        connection.close()
        assert answer.status < 300, (line, content)
        assert_declared(line.method, line.target, answer.status, content_type, content)


def test_answers_shown_are_answers() -> None:
    for block in re.findall(r"\n\n((?:    .*\n)+)", PAGE.read_text()):
        if block.lstrip().startswith("{"):
            shown = json.loads(block)
            if "title" in shown:
                problem = json.dumps(shown).encode()
                assert_declared("GET", "/nowhere", 404, "application/problem+json", problem)
