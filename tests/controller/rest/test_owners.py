# SPDX-License-Identifier: Apache-2.0
"""Calls of bridges beside several pods: which owner they follow, and 409 for one that is the owner no longer."""

from typing import Any

import pytest

from tests.support.rest_api import BINDING, HOME_ADDRESS, HOME_AGENT, Api, problem

SNAPSHOT = f"/v1/home-agents/{HOME_AGENT}/bindings"
FORMER, NEWEST = {"name": "ha", "revision": 7}, {"name": "hb", "revision": 12}
MOVED = {**BINDING, "care_of_address": "2001:db8:3::2", "sequence": 31553}


@pytest.fixture
def api() -> Api:
    """Provide a home agent with a binding, whose newest owner is the second that was announced."""
    api = Api()
    assert api.announce(last_change=5, owner=FORMER).json["owner"] == FORMER  # type: ignore[index]
    assert api.announce(last_change=1, owner=NEWEST).json["snapshot"] == "wanted"  # type: ignore[index]
    taken = api.call("PUT", SNAPSHOT, {"bindings": [BINDING], "last_change": 1, "owner": NEWEST})
    assert taken.status_code == 200
    return api


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", f"/v1/home-agents/{HOME_AGENT}", {"home_prefixes": ["2001:db8:99::/64"], "last_change": 9}),
        ("PUT", SNAPSHOT, {"bindings": [MOVED], "last_change": 9}),
        ("POST", SNAPSHOT, {"care_of_address": "2001:db8:2::2", "lifetime": 0, "protocol": "mipv6"}),
        ("POST", "/v1/bindings", {"bindings": [MOVED], "last_change": 9}),
        ("POST", "/v1/bindings", {"bindings": [MOVED]}),
        ("POST", "/v1/bindings", {"bindings": [MOVED], "one_entry": True}),
    ],
)
def test_a_former_owners_call_is_refused_and_names_the_newest(
    api: Api, method: str, path: str, body: dict[str, Any]
) -> None:
    before = api.held()
    refusal = problem(api.call(method, path, {**body, "owner": FORMER}), 409)
    assert "is owned by pod hb (revision 12)" in refusal["detail"]
    assert [each["field"] for each in refusal["errors"]] == ["owner"]
    assert api.held() == before
    (shown,) = api.get("/v1/home-agents")["home_agents"]
    assert (shown["owner"], shown["snapshot"]) == (NEWEST, "held")
    assert api.call(method, path, {**body, "owner": NEWEST}).status_code == 200


def test_a_takeover_is_an_event_and_removes_nothing(api: Api) -> None:
    api.offload.take_events()
    api.announce(last_change=1, owner={"name": "ha", "revision": 20})
    api.announce(last_change=1, owner={"name": "ha", "revision": 20})
    (event,) = [each for each in api.offload.take_events() if each.name == "home-agent-owned"]
    assert event.shown() == {"home_agent": HOME_AGENT, "owner": "ha", "revision": 20}
    assert [home_address for home_address, _, _ in api.held()] == [HOME_ADDRESS]


@pytest.mark.parametrize("bulk", [False, True], ids=["batch", "bulk update"])
def test_a_takeover_in_the_middle_ends_a_call(api: Api, monkeypatch: pytest.MonkeyPatch, bulk: bool) -> None:
    many = [{**BINDING, "home_address": f"2001:db8:99::1:{number:x}"} for number in range(150)]
    path, body = "/v1/bindings", {"bindings": many, "last_change": 2, "owner": NEWEST}
    if bulk:
        assert api.call("POST", path, body).status_code == 200
        path = SNAPSHOT
        body = {"care_of_address": "2001:db8:2::2", "lifetime": 0, "protocol": "mipv6", "owner": NEWEST}
    third = {"name": "ha", "revision": 20}
    monkeypatch.setattr("controller.rest.context.give_way", lambda: api.announce(last_change=2, owner=third))
    assert "is owned by pod ha (revision 20)" in problem(api.call("POST", path, body), 409)["detail"]
    (shown,) = api.get("/v1/home-agents")["home_agents"]
    assert 0 < shown["bindings"] <= 101, "none after the takeover"
    assert (shown["owner"], shown["snapshot"]) == (third, "wanted")


@pytest.mark.parametrize(
    "owner",
    [{"name": "ha"}, {"revision": 1}, {"name": "", "revision": 1}, {"name": "ha", "revision": 0}, "ha"],
)
def test_an_owner_has_a_name_and_a_revision(owner: object) -> None:
    problem(Api().announce(last_change=5, owner=owner), 422)


def test_an_owner_goes_with_a_number_of_changes_and_bindings_of_one_home_agent(api: Api) -> None:
    assert problem(api.announce(owner=NEWEST), 422)["errors"][0]["field"] == "last_change"
    other = {**BINDING, "home_agent": "2001:db8:aa::1", "home_address": "2001:db8:aa::100"}
    answer = api.call("POST", "/v1/bindings", {"bindings": [BINDING, other], "owner": NEWEST})
    assert problem(answer, 422)["errors"][0]["field"] == "owner"
