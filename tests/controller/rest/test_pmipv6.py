# SPDX-License-Identifier: Apache-2.0
"""Bindings of Proxy Mobile IPv6 in the REST API."""

from typing import Any

import pytest

from tests.support.rest_api import BINDING, HOME_ADDRESS, Api, problem

LMA = "2001:db8:98::1"
MAG_2 = "2001:db8:3::2"
REGISTERED: dict[str, Any] = {
    "protocol": "pmipv6",
    "home_address": "2001:db8:f1:1::/64",
    "care_of_address": "2001:db8:2::2",
    "home_agent": LMA,
    "lifetime": 60,
    "timestamp": 116391936000000,
}


@pytest.fixture
def lma() -> Api:
    """Provide an API that an LMA is announced to."""
    api = Api()
    body = {"home_prefixes": ["2001:db8:f1::/48"], "lease": 10, "protocols": ["pmipv6"]}
    announced = api.call("PUT", f"/v1/home-agents/{LMA}", body).json
    assert announced is not None
    assert announced["protocols"] == ["pmipv6"]
    return api


def test_a_registration_comes_back_as_it_was_sent(lma: Api) -> None:
    answer = lma.call("POST", "/v1/bindings", REGISTERED)
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json.items() >= REGISTERED.items()


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"care_of_address": MAG_2}, 409, "timestamp"),
        ({"timestamp": REGISTERED["timestamp"] - 1}, 409, "timestamp"),
        ({"care_of_address": MAG_2, "lifetime": 0}, 409, "care_of_address"),
        ({"protocol": "mipv6"}, 422, "timestamp"),
        ({"protocol": "mipv6", "timestamp": None}, 422, "protocol"),
        ({"protocol": "pmipv4"}, 422, "protocol"),
        ({"timestamp": -1}, 422, "timestamp"),
    ],
)
def test_what_is_refused_names_the_field(lma: Api, changes: dict[str, Any], status: int, field: str) -> None:
    lma.call("POST", "/v1/bindings", REGISTERED)
    refused = problem(lma.call("POST", "/v1/bindings", {**REGISTERED, **changes}), status)
    assert [each["field"] for each in refused["errors"]] == [field]


def test_an_announcement_without_protocols_is_a_home_agents(api: Api) -> None:
    assert api.get("/v1/home-agents")["home_agents"][0]["protocols"] == ["mipv6"]
    api.call("POST", "/v1/bindings", BINDING)
    assert api.get(f"/v1/bindings/{HOME_ADDRESS}")["protocol"] == "mipv6"
