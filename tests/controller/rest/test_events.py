# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/events` of a real controller: what happens, to whom it is told, and what a client may cost."""

import ast
import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.core.events import EVENTS
from tests.support.checkout import CHECKOUT
from tests.support.controller import REST_PORT, TIMEOUT, Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

HOME_AGENT = "2001:db8:99::1"
FIRST, SECOND = "2001:db8:2::2", "2001:db8:3::2"
BUFFER = 500
SMALLEST_BUFFER = 100  # less than the controller works off of a batch before others may go on


class Stream:
    """A client that follows the events by a real socket."""

    def __init__(self, ovs: Ovs, path: str = "/v1/events", **headers: str) -> None:
        self.last_id = ""
        self.comments = 0

        def opened() -> bool:
            with ovs.inside():
                self._connection = http.client.HTTPConnection("127.0.0.1", REST_PORT, timeout=TIMEOUT)
                self._connection.request("GET", path, headers=headers)
                self.answer = self._connection.getresponse()
            if self.answer.status != 200:
                self._connection.close()
            return self.answer.status == 200

        # The controller hears a moment later that a client has left, whose place is then free.
        wait_for("there is room for one more client", opened)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self._connection.close()

    def block(self) -> dict[str, str]:
        """Return the next block, by field; empty when the answer has ended."""
        found: dict[str, str] = {}
        while line := self.answer.readline().decode():
            if line == "\n":
                return found or {"": ""}
            name, _, value = line.rstrip("\n").partition(":")
            found[name] = value.removeprefix(" ")
        return {}

    def next(self) -> tuple[str, dict[str, Any]]:
        """Return the next event: its name and data. As a browser does it, with ids that come alone remembered."""
        deadline = time.monotonic() + TIMEOUT  # heartbeats would keep the socket's own from passing
        while block := self.block():
            assert time.monotonic() < deadline, f"no event within {TIMEOUT} s"
            self.last_id = block.get("id", self.last_id)
            self.comments += "" in block
            if "data" in block:
                return block["event"], json.loads(block["data"])
        raise EOFError("the answer has ended")

    def ready(self) -> "Stream":
        """Wait until the controller has said where the stream begins."""
        while not self.last_id:
            self.last_id = self.block().get("id", "")
        return self


@pytest.fixture
def buffer() -> int:
    """Return how many events are kept."""
    return BUFFER


@pytest.fixture
def controller(ovs: Ovs, tmp_path: Path, buffer: int) -> Iterator[Controller]:
    """Provide a controller whose home agent is announced."""
    # The bindings here move as fast as they are posted, and none shall be held for it.
    settings = f"event_buffer = {buffer}\nevent_streams = 2\nevent_heartbeat = 0.3\nchanges_a_second = 1000"
    with Controller(ovs, tmp_path, settings) as running:
        announce(running)
        yield running
    running.assert_log_clean()


def announce(controller: Controller) -> None:
    """Announce the home agent, as its bridge does."""
    controller.put(f"/v1/home-agents/{HOME_AGENT}", {"home_prefixes": ["2001:db8:99::/64"], "lease": 60})


def binding(number: int = 1, care_of_address: str = FIRST, **changes: object) -> dict[str, object]:
    """Return a binding of the home agent."""
    home_address = f"2001:db8:99::1:{number:x}"
    body = {"home_address": home_address, "care_of_address": care_of_address, "home_agent": HOME_AGENT}
    return {**body, "lifetime": 600, **changes}


def post(controller: Controller, *args: Any, **changes: Any) -> None:
    """Report a binding, as the bridge does."""
    answer = controller.call("POST", "/v1/bindings", binding(*args, **changes))
    assert answer.status in (200, 201), answer


def test_events_are_told_as_they_happen(ovs: Ovs, controller: Controller) -> None:
    with Stream(ovs).ready() as stream:
        assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
        post(controller, sequence=7)
        name, data = stream.next()
        assert name == "binding-added"
        assert data.pop("time").endswith("Z")
        assert data == binding(sequence=7)
        first = int(stream.last_id)
        post(controller, 1, SECOND, sequence=8)
        controller.call("POST", "/v1/bindings", binding(sequence=7))
        controller.call("DELETE", "/v1/bindings/2001:db8:99::1:1")
        told = [stream.next() for _ in range(3)]
        assert [name for name, _ in told] == ["binding-changed", "binding-refused", "binding-removed"]
        assert told[0][1]["care_of_address"] == SECOND
        assert told[1][1]["reason"] == "stale-sequence"
        assert told[2][1]["reason"] == "deleted"
        assert int(stream.last_id) == first + 3


def test_a_client_resumes_where_it_was_cut_off(ovs: Ovs, controller: Controller) -> None:
    with Stream(ovs).ready() as stream:
        begin = stream.last_id
    for number in range(3):
        post(controller, number + 1)
    with Stream(ovs, **{"Last-Event-ID": begin}) as stream:
        told = [stream.next() for _ in range(3)]
        assert [data["home_address"] for _, data in told] == [f"2001:db8:99::1:{n}" for n in (1, 2, 3)]
        second = str(int(stream.last_id) - 1)
    with Stream(ovs, f"/v1/events?after={second}") as stream:
        assert stream.next()[1]["home_address"] == "2001:db8:99::1:3"
    with Stream(ovs, "/v1/events?after=0") as stream:
        assert stream.next()[0] == "home-agent-announced"


def test_a_client_that_has_lost_events_is_told_so(ovs: Ovs, controller: Controller) -> None:
    with Stream(ovs).ready() as stream:
        begin = stream.last_id
    post_many(controller, BUFFER + 1, FIRST)
    for resumed in (begin, "1", str(10**17), "garbage"):
        with Stream(ovs, **{"Last-Event-ID": resumed}) as stream:
            assert stream.next()[0] == "reset", resumed
            post(controller, 1, SECOND if resumed in (begin, str(10**17)) else FIRST)
            assert stream.next()[0] == "binding-changed"
    controller.kill()
    controller.start()
    with Stream(ovs).ready() as stream:
        assert int(stream.last_id) > int(begin) + BUFFER
    announce(controller)
    with Stream(ovs, **{"Last-Event-ID": begin}) as stream:
        assert [stream.next()[0] for _ in range(2)] == ["reset", "home-agent-announced"]
    page = controller.get(f"/v1/events?follow=no&after={begin}")
    assert [event["name"] for event in page["events"]] == ["reset"]
    rest = controller.get(f"/v1/events?follow=no&cursor={page['next']}")
    assert [event["name"] for event in rest["events"]] == ["home-agent-announced"]


def post_many(controller: Controller, count: int, care_of_address: str) -> None:
    """Report bindings in one request, as the bridge does."""
    bindings = [binding(number, care_of_address) for number in range(1, count + 1)]
    answer = controller.call("POST", "/v1/bindings", {"bindings": bindings})
    assert answer.status == 200, answer.status


@pytest.mark.parametrize("buffer", [SMALLEST_BUFFER])
def test_a_burst_that_outruns_the_buffer_resets_its_readers_and_drops_none(ovs: Ovs, controller: Controller) -> None:
    with Stream(ovs).ready() as stream:
        post_many(controller, 5 * SMALLEST_BUFFER, FIRST)
        resets = 0
        while (name := stream.next()[0]) != "binding-changed":
            if name == "reset":  # what happened before it is not told any more, what comes now is
                resets += 1
                post(controller, 1, (FIRST, SECOND)[resets % 2])
        assert resets


def test_names_choose_what_is_told(ovs: Ovs, controller: Controller) -> None:
    with Stream(ovs, "/v1/events?name=binding-removed,lease-lapsed").ready() as stream:
        post(controller)
        controller.call("DELETE", "/v1/bindings/2001:db8:99::1:1")
        assert stream.next()[0] == "binding-removed"
    refused = controller.call("GET", "/v1/events?name=binding-removed,nonsense")
    assert refused.status == 422
    assert "'nonsense'" in refused.body["detail"]


def test_what_is_buffered_is_a_list_with_pages(controller: Controller) -> None:
    for number in range(5):
        post(controller, number + 1)
    page = controller.get("/v1/events?follow=no&limit=4")
    assert [event["name"] for event in page["events"]] == ["home-agent-announced"] + ["binding-added"] * 3
    last = controller.get(f"/v1/events?follow=no&cursor={page['next']}")
    assert [event["home_address"][-1] for event in last["events"]] == ["4", "5"]
    assert last["next"] is None
    newest = last["events"][-1]["id"]
    assert controller.get(f"/v1/events?follow=no&after={newest}") == {"events": [], "next": None}
    assert controller.get(f"/v1/events?follow=no&after={newest + 1}")["events"][0]["name"] == "reset"
    assert controller.get("/v1/events?follow=no&name=binding-removed") == {"events": [], "next": None}
    for wrong in ("follow=maybe", "after=-1", "follow=no&after=x", "follow=no&limit=0"):
        assert controller.call("GET", f"/v1/events?{wrong}").status == 422, wrong


def test_a_quiet_stream_shows_that_it_lives(ovs: Ovs, controller: Controller) -> None:
    with Stream(ovs, "/v1/events?name=binding-removed").ready() as stream:
        begin = int(stream.last_id)
        while int(stream.last_id) < begin + 2:  # also the numbers of events that it does not get
            post(controller, 1, FIRST if stream.comments % 2 else SECOND)
            block = stream.block()
            assert block, "the stream has ended"
            stream.last_id = block["id"]
            stream.comments += 1
            assert "data" not in block


def test_no_more_clients_than_allowed_and_who_leaves_is_gone_at_once(ovs: Ovs, controller: Controller) -> None:
    for _ in range(5):
        with Stream(ovs).ready(), Stream(ovs).ready():
            refused = controller.call("GET", "/v1/events")
            assert refused.status == 503
            assert "event_streams" in refused.body["detail"]


def test_a_client_that_does_not_read_is_dropped_and_delays_nobody(ovs: Ovs, controller: Controller) -> None:
    with ovs.inside(), socket.create_connection(("127.0.0.1", REST_PORT), TIMEOUT) as stuck, Stream(ovs) as good:
        stuck.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        good.ready()
        told = 0
        for turn in range(40):
            post_many(controller, BUFFER // 2, SECOND if turn % 2 else FIRST)
            while told < (turn + 1) * BUFFER // 2:
                assert good.next()[0] in ("binding-added", "binding-changed")
                told += 1
        with Stream(ovs):  # there is room again: the controller has dropped the other one
            pass
        wait_for("the log tells of it", lambda: "event=event-stream-dropped" in controller.log)
        # What its own kernel held for it still comes, and then the end.
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := stuck.recv(1 << 20):
                received += len(part)
        assert received < 40 * BUFFER // 2 * 100, "it got everything, so this test has shown nothing"


def test_every_event_is_declared_and_has_the_fields_declared() -> None:
    told: dict[str, set[str]] = {}
    core, cluster = (CHECKOUT / "controller" / part for part in ("core", "cluster"))
    for path in (*core.glob("*.py"), *cluster.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(ast.Attribute(attr="event" | "_event"), [name], keywords):
                    fields = {keyword.arg or "" for keyword in keywords}
                case ast.Call(ast.Name("Event"), [ast.Constant() as name, ast.Dict(keys)]):
                    fields = {ast.literal_eval(key) for key in keys if key is not None}
                case _:
                    continue
            for each in _names_in(name):
                assert fields == EVENTS[each].fields.keys(), f"{path.name}:{node.lineno} {each}"
                told.setdefault(each, set()).update(fields)
    assert EVENTS.keys() == told.keys()


def _names_in(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.IfExp):
        return [*_names_in(node.body), *_names_in(node.orelse)]
    assert ast.unparse(node) == "f'binding-{change.value}'", ast.unparse(node)
    return ["binding-added", "binding-changed"]


def test_what_an_agent_says_cannot_forge_a_line_nor_show_an_address(ovs: Ovs, tmp_path: Path) -> None:
    settings = "log_addresses = false\nlog_format = json"
    with Controller(ovs, tmp_path, settings) as controller:
        announce(controller)
        post(controller)
        reason = '2001:db8:99::1:1 failed"\n{"level":"error","event":"forged"}\u2028\x1b[2J'
        failed = [{"home_address": "2001:db8:99::1:1", "reason": reason}]
        controller.put("/v1/routers/0000000000000001/tunnels/ack", {"revision": 0, "failed": failed})
        wait_for("the log tells of it", lambda: '"event":"tunnel-failed"' in controller.log.replace(" ", ""))
        lines = [json.loads(line) for line in controller.log.splitlines()]
    told = {line["event"]: line for line in lines}
    assert "forged" not in told
    assert told["tunnel-failed"]["level"] == "warning"
    pseudonym = told["binding-added"]["home_address"]
    assert pseudonym.startswith("#")
    assert told["tunnel-failed"]["home_address"] == pseudonym
    assert told["tunnel-failed"]["reason"] == reason.replace("2001:db8:99::1:1", pseudonym)
    assert told["binding-added"]["home_agent"] == HOME_AGENT
