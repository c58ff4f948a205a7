# SPDX-License-Identifier: Apache-2.0
"""The numbers by which a bridge says up to which change of its home agent it has reported everything."""

from typing import Any

import pytest

from tests.support.rest_api import BINDING, HOME_ADDRESS, HOME_AGENT, HOME_PREFIX, Api

SNAPSHOT = f"/v1/home-agents/{HOME_AGENT}/bindings"
MISSING = "has seen its change 7, and has reported"


@pytest.fixture
def api() -> Api:
    """Provide a bridge that has reported everything up to change 5."""
    api = Api()
    assert api.announce(last_change=5).status_code == 200
    assert api.call("PUT", SNAPSHOT, {"bindings": [BINDING], "last_change": 5}).status_code == 200
    return api


def post(api: Api, last_change: object, *bindings: dict[str, object]) -> Any:
    return api.call("POST", "/v1/bindings", {"bindings": list(bindings), "last_change": last_change})


def reason(api: Api) -> str:
    return str(api.get(f"/v1/bindings/{HOME_ADDRESS}/explain")["reason"])


def test_reports_that_are_late_are_named_until_they_come(api: Api) -> None:
    assert MISSING not in reason(api)
    late = Api()
    assert late.announce(last_change=7).status_code == 200
    assert late.call("PUT", SNAPSHOT, {"bindings": [BINDING], "last_change": 5}).status_code == 200
    assert f"{MISSING} those up to 5 here" in reason(late)
    assert post(late, 6, BINDING).status_code == 200
    assert f"{MISSING} those up to 6 here" in reason(late)
    assert post(late, 7, BINDING).status_code == 200
    assert MISSING not in reason(late)


def test_a_bridge_that_counts_anew_is_asked_for_its_snapshot(api: Api) -> None:
    assert api.announce(last_change=5).json["snapshot"] == "held"  # type: ignore[index]
    assert api.announce(last_change=0).json["snapshot"] == "wanted"  # type: ignore[index]
    assert api.call("PUT", SNAPSHOT, {"bindings": [BINDING], "last_change": 0}).status_code == 200
    assert api.announce(last_change=0).json["snapshot"] == "held"  # type: ignore[index]


@pytest.mark.parametrize(
    "bindings",
    [[], [BINDING, {**BINDING, "home_agent": "2001:db8:aa::1", "home_address": "2001:db8:aa::100"}]],
    ids=["none", "of two"],
)
def test_a_number_goes_with_bindings_of_one_home_agent(api: Api, bindings: list[dict[str, object]]) -> None:
    answer = post(api, 6, *bindings)
    assert answer.status_code == 422
    assert answer.json["errors"][0]["field"] == "last_change"
    assert "expected bindings of one home agent with it" in answer.json["errors"][0]["reason"]


@pytest.mark.parametrize("wrong", [-1, 10**18, "6", 1.5])
def test_a_wrong_number_is_refused(api: Api, wrong: object) -> None:
    assert post(api, wrong, BINDING).status_code == 422
    assert api.call("PUT", SNAPSHOT, {"bindings": [], "last_change": wrong}).status_code == 422
    body = {"home_prefixes": [HOME_PREFIX], "last_change": wrong}
    assert api.call("PUT", f"/v1/home-agents/{HOME_AGENT}", body).status_code == 422
