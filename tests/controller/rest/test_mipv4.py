# SPDX-License-Identifier: Apache-2.0
"""Bindings of Mobile IPv4 in the REST API."""

from typing import Any

import pytest

from controller.core.protocols import OTHER_TUNNELS, Tunnel
from tests.support.rest_api import Api, problem

HOME_AGENT = "10.99.0.1"
FOREIGN_AGENT = "10.3.0.1"
IDENTIFICATION = 0xE8F0_0000_8000_0000  # an NTP timestamp, more than fits 63 bits
REGISTERED: dict[str, Any] = {
    "protocol": "mipv4",
    "home_address": "10.99.0.100",
    "care_of_address": "10.2.0.2",
    "home_agent": HOME_AGENT,
    "lifetime": 60,
    "identification": IDENTIFICATION,
    "reverse_tunnel": True,
}


@pytest.fixture
def agent() -> Api:
    """Provide an API that a home agent of Mobile IPv4 is announced to."""
    api = Api()
    api.call("PUT", f"/v1/home-agents/{HOME_AGENT}", {"home_prefixes": ["10.99.0.0/24"], "protocols": ["mipv4"]})
    return api


def test_a_registration_comes_back_as_it_was_sent(agent: Api) -> None:
    answer = agent.call("POST", "/v1/bindings", REGISTERED)
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json.items() >= REGISTERED.items()
    assert answer.json["sequence"] is None
    found = agent.get("/v1/bindings?care_of_address=10.2.0.2&home_agent=10.99.0.1")["bindings"]
    assert [each["home_address"] for each in found] == ["10.99.0.100"]


def test_lifetime_65535_does_not_end(agent: Api) -> None:
    answer = agent.call("POST", "/v1/bindings", {**REGISTERED, "lifetime": 65535}).json
    assert answer is not None
    assert (answer["lifetime"], answer["expires_in"]) == (65535, None)


def test_one_message_for_all_behind_a_foreign_agent_knows_that_lifetime_too(agent: Api) -> None:
    agent.call("POST", "/v1/bindings", REGISTERED)
    behind: dict[str, Any] = {"protocol": "mipv4", "care_of_address": REGISTERED["care_of_address"]}
    path = f"/v1/home-agents/{HOME_AGENT}/bindings"
    for lifetime, ends in ((65535, False), (65534, True)):
        answer = agent.call("POST", path, {**behind, "lifetime": lifetime}).json
        assert answer is not None
        assert answer["unchanged"] == 1
        assert (agent.get("/v1/bindings/10.99.0.100")["expires_in"] is not None) == ends
    refused = problem(agent.call("POST", path, {**behind, "lifetime": 60, "timestamp": 1}), 422)
    assert refused["errors"][0]["reason"] == "expected none: mipv4 orders updates by `identification`"


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"identification": IDENTIFICATION - 1}, 409, "identification"),
        ({"care_of_address": FOREIGN_AGENT}, 409, "identification"),
        ({"identification": 1 << 64}, 422, "identification"),
        ({"sequence": 7}, 422, "sequence"),
        ({"timestamp": 7}, 422, "timestamp"),
        ({"tunnel": "ipv6"}, 422, "tunnel"),
        ({"care_of_address": "2001:db8:2::2", "identification": None}, 422, "care_of_address"),
        ({"care_of_address": "224.0.0.9", "identification": None}, 422, "care_of_address"),
        ({"care_of_address": "255.255.255.255", "identification": None}, 422, "care_of_address"),
        ({"care_of_address": "127.0.0.1", "identification": None}, 422, "care_of_address"),
        ({"care_of_address": "0.0.0.0", "identification": None}, 422, "care_of_address"),
        ({"care_of_address": "169.254.0.2", "identification": None}, 422, "care_of_address"),
        ({"care_of_address": HOME_AGENT, "identification": None}, 422, "care_of_address"),
        ({"home_address": "10.98.0.100"}, 422, "home_address"),
        ({"home_address": "10.99.0.255"}, 422, "home_address"),
        ({"home_address": "10.99.0.0"}, 422, "home_address"),
        ({"protocol": "mipv6", "identification": None}, 422, "reverse_tunnel"),
    ],
)
def test_what_is_refused_names_the_field(agent: Api, changes: dict[str, Any], status: int, field: str) -> None:
    agent.call("POST", "/v1/bindings", REGISTERED)
    refused = problem(agent.call("POST", "/v1/bindings", {**REGISTERED, **changes}), status)
    assert [each["field"] for each in refused["errors"]] == [field]


def test_the_identification_is_compared_as_a_clock_that_begins_anew(agent: Api) -> None:
    agent.call("POST", "/v1/bindings", {**REGISTERED, "identification": (1 << 64) - 5})
    moved = {**REGISTERED, "care_of_address": FOREIGN_AGENT, "identification": 3}
    answer = agent.call("POST", "/v1/bindings", moved).json
    assert answer is not None
    assert answer["care_of_address"] == FOREIGN_AGENT
    problem(agent.call("POST", "/v1/bindings", REGISTERED), 409)


@pytest.mark.parametrize("end", [{"lifetime": 0}, {"care_of_address": "10.99.0.100"}])
def test_a_mobile_node_ends_its_binding_by_lifetime_0_or_from_home(agent: Api, end: dict[str, Any]) -> None:
    agent.call("POST", "/v1/bindings", REGISTERED)
    later = {**REGISTERED, **end, "identification": IDENTIFICATION + 1}
    assert agent.call("POST", "/v1/bindings", later).json == {"home_address": "10.99.0.100", "state": "removed"}
    problem(agent.call("POST", "/v1/bindings", REGISTERED), 409)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"tunnel": "gre"}, "GRE carries its packets (RFC 5944; with keys RFC 5845), which routers do not"),
        ({"tunnel": "minimal"}, "minimal encapsulation carries its packets (RFC 2004), which routers do not"),
        ({"tunnel": "udp"}, OTHER_TUNNELS[Tunnel.UDP]),
        (
            {"simultaneous": True},
            "it has several care-of addresses at a time (RFC 5944, flag S), and routers send to one only",
        ),
    ],
)
def test_what_routers_can_not_carry_is_left_to_the_home_agent_with_the_reason(
    agent: Api, what: dict[str, Any], reason: str
) -> None:
    answer = agent.call("POST", "/v1/bindings", REGISTERED | what).json
    assert answer is not None
    assert (answer["state"], answer["withheld"]) == ("withheld", reason)
    agent.call("PUT", f"/v1/home-agents/{HOME_AGENT}/bindings", {"bindings": [REGISTERED | what]})
    assert reason in agent.get("/v1/bindings/10.99.0.100/explain")["reason"]


@pytest.mark.parametrize(
    ("tunnel", "said"),
    [("udp", "as behind a NAT"), ("ipv4", "its anchor is announced by an IPv6 address")],
)
def test_a_dual_stack_mobile_node_with_an_ipv4_care_of_address_is_left_to_a_home_agent_known_by_ipv6_with_the_reason(
    tunnel: str, said: str
) -> None:
    api, home_agent, home_address = Api(), "2001:db8:99::1", "2001:db8:99::100"
    api.call("PUT", f"/v1/home-agents/{home_agent}", {"home_prefixes": ["2001:db8:99::/64"]})
    reported: dict[str, Any] = {"home_address": home_address, "home_agent": home_agent}
    reported |= {"care_of_address": "192.0.2.2", "tunnel": tunnel, "lifetime": 60, "sequence": 1}
    answer = api.call("POST", "/v1/bindings", reported).json
    assert answer is not None
    assert (answer["state"], answer["withheld"]) == ("withheld", OTHER_TUNNELS[Tunnel(tunnel)])
    api.call("PUT", f"/v1/home-agents/{home_agent}/bindings", {"bindings": [reported]})
    assert said in api.get(f"/v1/bindings/{home_address}/explain")["reason"]
    (listed,) = api.get("/v1/bindings?state=withheld")["bindings"]
    assert listed["home_address"] == home_address
    ended = api.call("POST", "/v1/bindings", {**reported, "lifetime": 0, "sequence": 2})
    assert ended.status_code == 200
    assert api.get("/v1/bindings")["bindings"] == []


def test_without_a_registered_reverse_tunnel_routers_are_told_so(agent: Api) -> None:
    one_way = {key: value for key, value in REGISTERED.items() if key != "reverse_tunnel"}
    agent.call("POST", "/v1/bindings", one_way)
    agent.call("POST", "/v1/bindings", {**REGISTERED, "home_address": "10.99.0.101"})
    endpoint = {"home_agent": HOME_AGENT, "port": "tin", "mac": "02:00:00:00:00:0a"}
    agent.call("PUT", "/v1/routers/1/tunnels/ack", {"revision": 0, "endpoints": [endpoint]})
    path = {"care_of_address": "10.2.0.2", "home_agent": HOME_AGENT}
    assert agent.get("/v1/routers/1/tunnels")["tunnels"] == [
        {"home_address": "10.99.0.100", **path, "reverse_tunnel": False},
        {"home_address": "10.99.0.101", **path},
    ]


def test_home_agents_that_share_private_addresses_are_refused_with_the_reason(agent: Api) -> None:
    other = {"home_prefixes": ["10.99.0.0/16"], "protocols": ["mipv4"]}
    refused = problem(agent.call("PUT", "/v1/home-agents/10.98.0.1", other), 409)
    assert "private addresses that several networks use can't be told apart" in refused["detail"]
