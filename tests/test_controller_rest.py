# SPDX-License-Identifier: Apache-2.0
"""The northbound API over the real core, in process: answers as the design has them, and refusals that lose nothing."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import Client, TestResponse

from controller.changes import ChangeSignal, KeyedSignal
from controller.core.flows import Normal
from controller.core.offload import Offload
from controller.core.router import Timing
from controller.core.traffic import UPLINK, Counters
from controller.core.updates import MOST_TOLD
from controller.events import EventBuffer
from controller.metrics import Metrics
from controller.rest.api import RestApi
from controller.rest.authorization import Authorization
from controller.rest.context import ApiContext
from controller.traffic_history import KEPT, TrafficHistory
from tests.support.conformance import assert_declared
from tests.support.settings import defaults

HOME_AGENT = "2001:db8:99::1"
HOME_PREFIX = "2001:db8:99::/64"
HOME_ADDRESS = "2001:db8:99::100"
BINDING: dict[str, object] = {
    "home_address": HOME_ADDRESS,
    "care_of_address": "2001:db8:2::2",
    "home_agent": HOME_AGENT,
    "lifetime": 60,
    "sequence": 31552,
}
LARGEST_BODY = 100_000
SETTINGS = replace(defaults(), largest_body=LARGEST_BODY, request_timeout=1.0, event_buffer=100, event_streams=2)


class Api:
    """The API with nothing behind it but the core."""

    def __init__(self) -> None:
        self.offload = Offload(Timing(10.0, 3.0, 600.0), (Normal(),), first_revision=1000)
        changed = ChangeSignal()
        self.notified = 0

        def notify() -> None:
            self.notified += 1
            changed.notify()

        events = EventBuffer(SETTINGS.event_buffer, first=1000)
        metrics = Metrics(self.offload, {})
        self.traffic = TrafficHistory(self.offload)
        context = ApiContext(self.offload, SETTINGS, {}, changed, KeyedSignal(), notify, events, metrics, self.traffic)
        self._client = Client(RestApi(context, Authorization(None, SETTINGS)))

    def call(self, method: str, path: str, body: object = None, raw: bytes | None = None) -> TestResponse:
        """One call; `body` goes as JSON, `raw` as it is. Fails for an answer that OpenAPI does not declare."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        answer = self._client.open(path, method=method, data=data)
        assert_declared(method, path, answer.status_code, answer.content_type or "", answer.data)
        return answer

    def chunked(self, method: str, path: str, body: bytes) -> TestResponse:
        """One call with a body whose length is not told beforehand."""
        environ = {"HTTP_TRANSFER_ENCODING": "chunked"}
        return self._client.open(path, method=method, input_stream=io.BytesIO(body), environ_overrides=environ)

    def get(self, path: str) -> Any:
        """The body of a GET that is answered 200."""
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.data
        return answer.json

    def announce(self, home_agent: str = HOME_AGENT, **changes: Any) -> TestResponse:
        """Announces a home agent."""
        return self.call("PUT", f"/v1/home-agents/{home_agent}", {"home_prefixes": [HOME_PREFIX], **changes})

    def held(self) -> list[tuple[str, str, int | None]]:
        """What is held: home address, care-of address, sequence."""
        bindings = self.get("/v1/bindings")["bindings"]
        return [(held["home_address"], held["care_of_address"], held["sequence"]) for held in bindings]


@pytest.fixture
def api() -> Api:
    """An API that one home agent is announced to."""
    api = Api()
    assert api.announce().status_code == 200
    return api


def problem(answer: TestResponse, status: int) -> Any:
    """The body of a refusal, checked for its form (RFC 9457)."""
    assert answer.status_code == status, answer.data
    assert answer.content_type == "application/problem+json"
    body: Any = answer.json
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def test_a_binding_comes_back_as_the_design_shows_it(api: Api) -> None:
    spelled = {**BINDING, "home_address": "2001:0DB8:0099:0:0:0:0:0100", "care_of_address": "2001:DB8:2:0::2"}
    answer = api.call("POST", "/v1/bindings", spelled)
    assert answer.status_code == 201
    assert answer.json == {
        **BINDING,
        "expires_in": pytest.approx(60, abs=1),
        "state": "held",
        "routers": {},
        "withheld": None,
    }
    assert api.get(f"/v1/bindings/{HOME_ADDRESS}")["sequence"] == 31552
    assert api.call("POST", "/v1/bindings", BINDING).status_code == 200
    assert api.call("POST", "/v1/bindings", {**BINDING, "lifetime": 0}).json == {
        "home_address": HOME_ADDRESS,
        "state": "removed",
    }
    problem(api.call("GET", f"/v1/bindings/{HOME_ADDRESS}"), 404)


def test_a_withheld_binding_is_listed_explained_and_removed(api: Api) -> None:
    api.call("PUT", f"/v1/home-agents/{HOME_AGENT}/bindings", {"bindings": []})
    reported = {**BINDING, "withheld": "IPsec: protected"}
    answer = api.call("POST", "/v1/bindings", reported)
    assert answer.status_code == 201
    assert answer.json == {**reported, "expires_in": pytest.approx(60, abs=1), "state": "withheld", "routers": {}}
    assert api.call("POST", "/v1/bindings", reported).status_code == 200
    assert [each["withheld"] for each in api.get("/v1/bindings?state=withheld")["bindings"]] == ["IPsec: protected"]
    assert api.get("/v1/bindings?state=held")["bindings"] == []
    assert api.get("/v1/home-agents")["home_agents"][0]["bindings"] == 1
    found = api.get(f"/v1/bindings/{HOME_ADDRESS}/explain")
    assert found["path"] == "home-agent"
    assert "IPsec: protected" in found["reason"]
    assert found["binding"]["state"] == "withheld"
    assert [(each["result"], each["reason"]) for each in found["updates"]] == [("withheld", "IPsec: protected")]
    snapshot = {"bindings": [{**reported, "withheld": "in doubt: why"}]}
    taken = api.call("PUT", f"/v1/home-agents/{HOME_AGENT}/bindings", snapshot)
    assert taken.json == {"added": 0, "changed": 1, "removed": 0, "unchanged": 0, "refused": []}
    assert api.get(f"/v1/bindings/{HOME_ADDRESS}")["withheld"] == "in doubt: why"
    problem(api.call("POST", "/v1/bindings", {**BINDING, "sequence": 31551}), 409)
    for wrong in ("", "x" * 201, "two\nlines", 7):
        problem(api.call("POST", "/v1/bindings", {**BINDING, "withheld": wrong}), 422)
    assert api.call("DELETE", f"/v1/bindings/{HOME_ADDRESS}").status_code == 204
    problem(api.call("GET", f"/v1/bindings/{HOME_ADDRESS}"), 404)


def test_lifetime_and_sequence_may_be_absent(api: Api) -> None:
    bare = {name: BINDING[name] for name in ("home_address", "care_of_address", "home_agent")}
    assert api.call("POST", "/v1/bindings", bare).status_code == 201
    moved = {**bare, "care_of_address": "2001:db8:3::2"}
    assert api.call("POST", "/v1/bindings", moved).status_code == 200
    assert api.held() == [(HOME_ADDRESS, "2001:db8:3::2", None)]


def test_a_mobile_network_prefix_is_a_binding_with_a_slash(api: Api) -> None:
    api.announce(home_prefixes=[HOME_PREFIX, "2001:db8:aa::/48"])
    api.call("POST", "/v1/bindings", {**BINDING, "home_address": "2001:db8:aa:1::/64"})
    for path in ("2001:db8:aa:1::/64", "2001:db8:aa:1::%2F64"):
        assert api.get(f"/v1/bindings/{path}")["home_address"] == "2001:db8:aa:1::/64"
    assert api.call("DELETE", "/v1/bindings/2001:db8:aa:1::%2F64").status_code == 204
    problem(api.call("DELETE", "/v1/bindings/2001:db8:aa:1::%2F64"), 404)


@pytest.mark.parametrize(
    ("raw", "status", "field"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"\xff", 400, None),
        (b'{"home_address": "\xff"}', 400, None),
        (b'{"bindings": ' + b"[" * 50_000, 400, None),
        (b'{"home_address": ' * 5_000, 400, None),
        (b"[]", 422, "body"),
        (b'"x"', 422, "body"),
        (b"{}", 422, "home_address"),
        (json.dumps({**BINDING, "home_address": 7}).encode(), 422, "home_address"),
        (json.dumps({**BINDING, "lifetime": "60"}).encode(), 422, "lifetime"),
        (json.dumps({**BINDING, "lifetime": -1}).encode(), 422, "lifetime"),
        (json.dumps({**BINDING, "lifetime": 262141}).encode(), 422, "lifetime"),
        (json.dumps({**BINDING, "lifetime": 1.5}).encode(), 422, "lifetime"),
        (json.dumps({**BINDING, "lifetime": True}).encode(), 422, "lifetime"),
        (json.dumps({**BINDING, "sequence": 65536}).encode(), 422, "sequence"),
        (json.dumps({**BINDING, "colour": "red"}).encode(), 422, "colour"),
        (json.dumps({**BINDING, "home_address": "here"}).encode(), 422, "home_address"),
        (json.dumps({**BINDING, "home_address": "192.0.2.1"}).encode(), 422, "home_address"),
        (json.dumps({**BINDING, "home_address": "2001:db8:98::1"}).encode(), 422, "home_address"),
        (json.dumps({**BINDING, "home_address": HOME_PREFIX}).encode(), 422, "home_address"),
        (json.dumps({**BINDING, "home_agent": "192.0.2.1"}).encode(), 422, "home_agent"),
        (json.dumps({**BINDING, "home_agent": "2001:db8:98::1"}).encode(), 422, "home_agent"),
        (json.dumps({name: BINDING[name] for name in BINDING if name != "home_agent"}).encode(), 422, "home_agent"),
        (json.dumps({**BINDING, "sequence": 31551}).encode(), 409, "sequence"),
        (json.dumps({**BINDING, "care_of_address": "2001:db8:3::2"}).encode(), 409, "sequence"),
    ],
)
def test_bad_bindings_are_refused_by_field_and_change_nothing(
    api: Api, raw: bytes, status: int, field: str | None
) -> None:
    api.call("POST", "/v1/bindings", BINDING)
    before = api.held()
    body = problem(api.call("POST", "/v1/bindings", raw=raw), status)
    if field is not None:
        assert [error["field"] for error in body["errors"]] == [field]
        assert body["errors"][0]["reason"]
    assert api.held() == before


@pytest.mark.parametrize("care_of_address", ["ff02::1", HOME_AGENT, "192.0.2.1", "::ffff:192.0.2.1"])
@pytest.mark.parametrize("several", [False, True])
def test_a_care_of_address_that_is_refused_takes_the_former_away(api: Api, care_of_address: str, several: bool) -> None:
    api.call("POST", "/v1/bindings", BINDING)
    update = {**BINDING, "care_of_address": care_of_address, "sequence": 31553}
    api.notified = 0
    if several:
        results: Any = api.call("POST", "/v1/bindings", {"bindings": [update]}).json
        (result,) = results["results"]
        assert (result["status"], result["errors"][0]["field"]) == (422, "care_of_address")
    else:
        body = problem(api.call("POST", "/v1/bindings", update), 422)
        assert [error["field"] for error in body["errors"]] == ["care_of_address"]
    assert api.held() == []
    assert api.notified  # the switches' channels are woken


@given(st.binary(max_size=200))
def test_no_body_brings_the_api_down(raw: bytes) -> None:
    api = Api()
    api.announce()
    for method, path in (
        ("POST", "/v1/bindings"),
        ("PUT", f"/v1/home-agents/{HOME_AGENT}"),
        ("PUT", f"/v1/home-agents/{HOME_AGENT}/bindings"),
        ("PUT", "/v1/routers/1/tunnels/ack"),
    ):
        assert api.call(method, path, raw=raw).status_code in (400, 422)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=20), children, max_size=3),
    max_leaves=5,
)


@given(st.fixed_dictionaries({name: json_values | st.just(value) for name, value in BINDING.items()}))
def test_no_value_of_a_field_brings_the_api_down(body: dict[str, object]) -> None:
    api = Api()
    api.announce()
    assert api.call("POST", "/v1/bindings", body).status_code in (200, 201, 400, 422)
    assert api.call("POST", "/v1/bindings", {"bindings": [body]}).status_code in (200, 400)


def test_a_body_over_the_limit_is_refused(api: Api) -> None:
    body = problem(api.call("POST", "/v1/bindings", raw=b" " * (LARGEST_BODY + 1)), 413)
    assert str(LARGEST_BODY) in body["detail"]
    announcement = json.dumps({"home_prefixes": [HOME_PREFIX]}).encode()
    padded = announcement + b" " * LARGEST_BODY
    chunked = api.chunked("PUT", "/v1/home-agents/2001:db8:98::1", padded)
    problem(chunked, 413)
    assert len(api.get("/v1/home-agents")["home_agents"]) == 1
    assert api.chunked("PUT", f"/v1/home-agents/{HOME_AGENT}", announcement).status_code == 200


def test_a_batch_reports_each_item(api: Api) -> None:
    batch = [
        BINDING,
        {**BINDING, "home_address": "2001:db8:98::1"},
        {**BINDING, "sequence": 1},
        {"home_address": 3},
        {**BINDING, "home_address": "2001:db8:99::101"},
        BINDING,
    ]
    results: Any = api.call("POST", "/v1/bindings", {"bindings": batch}).json
    statuses = [(result["index"], result["status"]) for result in results["results"]]
    assert statuses == [(0, 201), (1, 422), (2, 409), (3, 422), (4, 201), (5, 200)]
    assert [results["results"][index]["errors"][0]["field"] for index in (1, 2, 3)] == [
        "home_address",
        "sequence",
        "home_address",
    ]
    assert [home_address for home_address, *_ in api.held()] == [HOME_ADDRESS, "2001:db8:99::101"]


def test_a_snapshot_is_the_truth_of_its_moment(api: Api) -> None:
    path = f"/v1/home-agents/{HOME_AGENT}/bindings"
    api.call("POST", "/v1/bindings", BINDING)
    api.call("POST", "/v1/bindings", {**BINDING, "home_address": "2001:db8:99::101"})
    snapshot = [
        {**BINDING, "care_of_address": "2001:db8:3::2", "sequence": 1},  # older, but the truth
        {**BINDING, "home_address": "2001:db8:99::102"},
        {**BINDING, "home_address": "2001:db8:98::1"},
        {**BINDING, "home_address": "2001:db8:99::103", "lifetime": 0},
        {**BINDING, "home_address": "2001:db8:99::102"},
        {**BINDING, "home_address": "2001:db8:99::104", "home_agent": "2001:db8:99::2"},
        7,
    ]
    answer = api.call("PUT", path, {"bindings": snapshot}).json
    assert answer is not None
    assert {name: answer[name] for name in ("added", "changed", "removed", "unchanged")} == {
        "added": 1,
        "changed": 1,
        "removed": 1,
        "unchanged": 0,
    }
    assert [(item["index"], item["errors"][0]["field"]) for item in answer["refused"]] == [
        (2, "home_address"),
        (4, "home_address"),
        (5, "home_agent"),
        (6, "body"),
    ]
    assert api.held() == [(HOME_ADDRESS, "2001:db8:3::2", 1), ("2001:db8:99::102", "2001:db8:2::2", 31552)]
    assert api.call("PUT", path, {"bindings": []}).json["removed"] == 2  # type: ignore[index]
    problem(api.call("PUT", "/v1/home-agents/2001:db8:98::1/bindings", {"bindings": []}), 404)


def test_a_home_agent_is_announced_and_asked_for_its_snapshot() -> None:
    api = Api()
    answer = api.announce(lease=10)
    assert answer.json == {
        "home_agent": HOME_AGENT,
        "home_prefixes": [HOME_PREFIX],
        "lease": 10,
        "expires_in": pytest.approx(10, abs=1),
        "status": "up",
        "snapshot": "wanted",
        "bindings": 0,
    }
    problem(api.call("GET", "/readyz"), 503)
    api.call("PUT", f"/v1/home-agents/{HOME_AGENT}/bindings", {"bindings": [BINDING]})
    renewed = api.announce(status="ha-down").json
    assert renewed is not None
    assert (renewed["status"], renewed["snapshot"], renewed["bindings"]) == ("ha-down", "held", 1)
    assert [agent["home_agent"] for agent in api.get("/v1/home-agents")["home_agents"]] == [HOME_AGENT]


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"home_prefixes": []}, 422, "home_prefixes"),
        ({"home_prefixes": ["2001:db8:99::1/64"]}, 422, "home_prefixes[0]"),
        ({"home_prefixes": [f"2001:db8:{i:x}::/64" for i in range(257)]}, 422, "home_prefixes"),
        ({"home_prefixes": ["::/0"]}, 422, "home_prefixes[0]"),
        ({"home_prefixes": [HOME_PREFIX, 7]}, 422, "home_prefixes[1]"),
        ({"lease": 0}, 422, "lease"),
        ({"lease": 1}, 422, "lease"),
        ({"lease": 61}, 422, "lease"),
        ({"status": "dead"}, 422, "status"),
        ({"state": "up"}, 422, "state"),
    ],
)
def test_bad_announcements_are_refused(changes: dict[str, Any], status: int, field: str) -> None:
    api = Api()
    body = problem(api.announce(**changes), status)
    assert [error["field"] for error in body["errors"]] == [field]
    assert api.get("/v1/home-agents")["home_agents"] == []


def test_home_prefixes_of_two_home_agents_do_not_overlap(api: Api) -> None:
    body = problem(api.announce("2001:db8:99::2"), 409)
    assert body["errors"][0]["field"] == "home_prefixes"
    problem(api.announce("fe80::1"), 422)


def test_lists_are_paged(api: Api) -> None:
    bindings = [{**BINDING, "home_address": f"2001:db8:99::{number:x}"} for number in range(0x100, 0x107)]
    api.call("POST", "/v1/bindings", {"bindings": bindings})
    seen: list[str] = []
    cursor, pages = "", 0
    while pages < 10:
        page = api.get(f"/v1/bindings?limit=3{cursor}")
        seen += [held["home_address"] for held in page["bindings"]]
        pages += 1
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert (pages, len(seen)) == (3, 7)
    assert sorted(seen) == sorted(str(held["home_address"]) for held in bindings)
    for wrong in ("0", "1001", "x", "-1", "9" * 5000):
        problem(api.call("GET", f"/v1/bindings?limit={wrong}"), 422)


def test_what_was_carried_is_told_over_time(api: Api) -> None:
    assert api.get("/v1/traffic") == {"samples": [], "next": None}
    api.offload.acknowledge(1, 0, {}, None, {}, now=1.0)
    router = api.offload.router(1)
    for moment in range(KEPT + 2):
        router.traffic.observe(UPLINK, Counters(moment, 100 * moment))
        api.traffic.take(1_800_000_000 + 10 * moment)
    first = api.get("/v1/traffic")
    assert first["samples"][0] == {"time": "2027-01-15T08:00:20.000Z", "downlink": 0, "uplink": 200}
    rest = api.get(f"/v1/traffic?limit=1000&cursor={first['next']}")
    assert (len(first["samples"]), len(rest["samples"])) == (100, KEPT - 100)
    assert rest["samples"][-1]["uplink"] == 100 * (KEPT + 1)


def test_lists_are_filtered(api: Api) -> None:
    api.call("POST", "/v1/bindings", BINDING)
    api.call(
        "POST", "/v1/bindings", {**BINDING, "home_address": "2001:db8:99::101", "care_of_address": "2001:db8:3::2"}
    )

    def found(query: str) -> int:
        return len(api.get(f"/v1/bindings?{query}")["bindings"])

    assert found("care_of_address=2001:DB8:3::2") == 1
    assert (found("home_address=2001:db8:99:0::101"), found("home_address=2001:db8:99::102")) == (1, 0)
    assert (found("home_address=2001:db8:99::/64"), found("home_address=2001:db8:98::/64")) == (2, 0)
    assert found(f"home_agent={HOME_AGENT}") == 2
    assert found("home_agent=2001:db8:98::1") == 0
    assert (found("state=held"), found("state=active")) == (2, 0)
    problem(api.call("GET", "/v1/bindings?state=asleep"), 422)
    problem(api.call("GET", "/v1/bindings?home_agent=there"), 422)
    problem(api.call("GET", "/v1/bindings?home_address=2001:db8:99:"), 422)


def test_an_agent_follows_its_list(api: Api) -> None:
    problem(api.call("GET", "/v1/routers/1/tunnels"), 404)
    endpoint = {"home_agent": HOME_AGENT, "port": "tin", "mac": "02:00:00:00:00:0A"}
    announced = api.call("PUT", "/v1/routers/1/tunnels/ack", {"revision": 0, "endpoints": [endpoint]})
    assert announced.json == {"lease": 10.0}
    first = api.get("/v1/routers/1/tunnels?after=0")
    assert (first["full"], first["home_agents"], first["tunnels"]) == (True, [], [])
    api.call("PUT", f"/v1/home-agents/{HOME_AGENT}/bindings", {"bindings": [BINDING]})
    synced = api.get(f"/v1/routers/1/tunnels?after={first['revision']}&wait=1")
    tunnel = {"home_address": HOME_ADDRESS, "care_of_address": "2001:db8:2::2", "home_agent": HOME_AGENT}
    assert (synced["full"], synced["home_agents"], synced["tunnels"]) == (True, [HOME_AGENT], [tunnel])
    api.call("DELETE", f"/v1/bindings/{HOME_ADDRESS}")
    third = api.get(f"/v1/routers/1/tunnels?after={synced['revision']}")
    assert (third["full"], third["tunnels"], third["removed"]) == (False, [], [HOME_ADDRESS])
    quiet = api.get(f"/v1/routers/1/tunnels?after={third['revision']}&wait=0")
    assert (quiet["full"], quiet["tunnels"], quiet["removed"]) == (False, [], [])
    flow = {
        "transmit_port": "tx",
        "receive_port": "rx",
        "decapsulation_address": "2001:db8:2::f1",
        "decapsulation_mac": "02:00:00:00:00:0b",
        "router_mac": "02:00:00:00:00:0c",
    }
    api.call("PUT", "/v1/routers/2/tunnels/ack", {"revision": 0, "flow": flow})
    assert api.get("/v1/routers/2")["backend"] == "flow"
    router = api.get("/v1/routers/0000000000000001")
    assert (router["agent"], router["backend"], router["connected"]) == ("alive", "route", False)
    assert api.get("/v1/routers")["routers"][0] == router
    problem(api.call("GET", "/v1/routers/1/flows"), 503)


def test_failures_of_what_is_not_bound_are_passed_over(api: Api) -> None:
    api.call("PUT", f"/v1/home-agents/{HOME_AGENT}/bindings", {"bindings": [BINDING]})
    failed = [{"home_address": f"2001:db8:99::{number:x}", "reason": "no room"} for number in range(1, 0x200)]
    assert api.call("PUT", "/v1/routers/1/tunnels/ack", {"revision": 0, "failed": failed}).status_code == 200
    told = [event for event in api.offload.take_events() if event.name == "tunnel-failed"]
    assert [str(event.fields["home_address"]) for event in told] == [HOME_ADDRESS]


def test_of_many_failures_not_all_are_told(api: Api) -> None:
    addresses = [f"2001:db8:99::{number:x}" for number in range(1, MOST_TOLD + 100)]
    bindings = [{**BINDING, "home_address": address} for address in addresses]
    for start in range(0, len(bindings), 500):
        api.call("POST", "/v1/bindings", {"bindings": bindings[start : start + 500]})
    failed = [{"home_address": address, "reason": "no room"} for address in addresses]
    api.call("PUT", "/v1/routers/1/tunnels/ack", {"revision": 0, "failed": failed})
    names = [event.name for event in api.offload.take_events()]
    assert names.count("tunnel-failed") == MOST_TOLD


def test_other_lists_are_filtered(api: Api) -> None:
    api.call("PUT", "/v1/routers/1/tunnels/ack", {"revision": 0})

    def count(path: str, name: str) -> int:
        return len(api.get(path)[name])

    assert count("/v1/home-agents?status=up", "home_agents") == 1
    assert count("/v1/home-agents?status=ha-down", "home_agents") == 0
    assert count("/v1/routers?connected=no&draining=no", "routers") == 1
    assert count("/v1/routers?connected=yes", "routers") == 0
    assert count("/v1/routers?draining=yes", "routers") == 0
    for wrong in ("home-agents?status=well", "routers?connected=1", "routers?colour=red", "routers/1/flows?kind=x"):
        problem(api.call("GET", f"/v1/{wrong}"), 422)
    problem(api.call("GET", "/v1/bindings?limit=1&limit=2"), 422)


def test_head_and_options(api: Api) -> None:
    api.call("POST", "/v1/bindings", BINDING)
    path = f"/v1/bindings/{HOME_ADDRESS}"
    shown, head = api.call("GET", path), api.call("HEAD", path)
    assert (head.status_code, head.data, head.content_type) == (200, b"", shown.content_type)
    assert head.content_length
    options = api.call("OPTIONS", path)
    assert (options.status_code, options.headers["Allow"]) == (204, "DELETE, GET, HEAD, OPTIONS")
    assert problem(api.call("PATCH", path), 405)["detail"] == "expected one of DELETE, GET, HEAD, OPTIONS, got PATCH"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"revision": -1}, "revision"),
        ({"endpoints": [{"home_agent": HOME_AGENT, "port": "tin", "mac": "02"}]}, "endpoints[0].mac"),
        ({"endpoints": [{"home_agent": "x", "port": "tin", "mac": "02:00:00:00:00:0a"}]}, "endpoints[0].home_agent"),
        ({"endpoints": [{"home_agent": HOME_AGENT, "port": "t", "mac": "02:00:00:00:00:0a"}] * 257}, "endpoints"),
        ({"failed": [{"home_address": "x", "reason": "no"}]}, "failed[0].home_address"),
    ],
)
def test_bad_acknowledgements_are_refused(api: Api, changes: dict[str, object], field: str) -> None:
    body = {"revision": 0, "endpoints": [], **changes}
    refusal = problem(api.call("PUT", "/v1/routers/1/tunnels/ack", body), 422)
    assert refusal["errors"][0]["field"] == field
    assert api.get("/v1/routers")["routers"] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/bindings/2001:db8:99::7", 404),
        ("GET", "/v1/bindings/x", 422),
        ("PATCH", "/v1/bindings", 405),
        ("POST", "/healthz", 405),
        ("PUT", "/v1/home-agents/x", 422),
        ("GET", "/v1/routers/x", 422),
        ("GET", "/v1/routers/0x1", 422),
        ("GET", "/v1/routers/+1", 422),
        ("GET", "/v1/routers/1/tunnels?after=" + "9" * 5000, 422),
        ("POST", "/v1/bindings?wait=long", 422),
        ("GET", "/v1/routers/11111111111111111", 422),
        ("GET", "/v1/routers/7", 404),
        ("GET", "/v1/routers/7/flows", 404),
    ],
)
def test_other_refusals_are_problems_too(api: Api, method: str, path: str, status: int) -> None:
    answer = api.call(method, path, {"home_prefixes": [HOME_PREFIX]} if method == "PUT" else None)
    problem(answer, status)
    if status == 405:
        assert answer.headers["Allow"]


def test_the_process_lives() -> None:
    assert Api().get("/healthz") == {"status": "ok"}
