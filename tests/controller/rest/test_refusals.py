# SPDX-License-Identifier: Apache-2.0
"""What the northbound API refuses: each a problem of its own, by field, and nothing is lost by it."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.rest_api import BINDING, HOME_AGENT, HOME_PREFIX, LARGEST_BODY, Api, problem


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
    assume(b"bindings" not in raw)  # an empty list of them is valid, and Hypothesis tries literals of our sources
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
