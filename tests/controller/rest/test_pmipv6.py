# SPDX-License-Identifier: Apache-2.0
"""Bindings of Proxy Mobile IPv6 in the REST API."""

from typing import Any

import pytest

from controller.core.protocols import OTHER_TUNNELS, Tunnel
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


def registered(number: int, **changes: Any) -> dict[str, Any]:
    """Return one of several registrations."""
    return {**REGISTERED, "home_address": f"2001:db8:f1:{number:x}::/64", "timestamp": 100, **changes}


def where(api: Api) -> dict[str, str]:
    """Return the care-of address of each home network prefix."""
    found = api.get("/v1/bindings?protocol=pmipv6")["bindings"]
    return {each["home_address"]: each["care_of_address"] for each in found}


@pytest.fixture
def mag(lma: Api) -> Api:
    """Provide an API with three registrations by one MAG, and one by another."""
    several = [registered(number) for number in (1, 2, 3)] + [registered(4, care_of_address=MAG_2)]
    lma.call("POST", "/v1/bindings", {"bindings": several})
    assert len(where(lma)) == 4
    return lma


def bulk(api: Api, **body: Any) -> dict[str, int]:
    """Update all registrations of the first MAG; return what counted."""
    answer = api.call("POST", f"/v1/home-agents/{LMA}/bindings", {"care_of_address": "2001:db8:2::2", **body})
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return {name: count for name, count in answer.json.items() if count}


def test_one_message_ends_all_of_a_gateway(mag: Api) -> None:
    assert bulk(mag, lifetime=0, timestamp=200) == {"removed": 3}
    assert where(mag) == {"2001:db8:f1:4::/64": MAG_2}
    problem(mag.call("POST", "/v1/bindings", registered(1, timestamp=150)), 409)
    assert bulk(mag, lifetime=0, timestamp=200) == {}


def test_one_message_renews_all_of_a_gateway_or_moves_them(mag: Api) -> None:
    assert bulk(mag, lifetime=600) == {"unchanged": 3}
    assert mag.get("/v1/bindings/2001:db8:f1:1::%2F64")["expires_in"] == pytest.approx(600, abs=5)
    assert bulk(mag, new_care_of_address="2001:db8:5::2") == {"changed": 3}
    assert set(where(mag).values()) == {"2001:db8:5::2", MAG_2}
    problem(mag.call("POST", "/v1/bindings", registered(1, timestamp=99)), 409)  # what is older stays so


def test_one_that_has_registered_elsewhere_since_stays(mag: Api) -> None:
    mag.call("POST", "/v1/bindings", registered(1, timestamp=300))
    assert bulk(mag, lifetime=0, timestamp=200) == {"removed": 2, "newer": 1}
    assert where(mag).keys() == {"2001:db8:f1:1::/64", "2001:db8:f1:4::/64"}


def entry(api: Api, *bindings: dict[str, Any]) -> list[int]:
    """Report the prefixes of one mobile node; return the statuses."""
    answer = api.call("POST", "/v1/bindings", {"bindings": list(bindings), "one_entry": True})
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return [each["status"] for each in answer.json["results"]]


def test_the_prefixes_of_one_mobile_node_move_together(lma: Api) -> None:
    first, second, outside = registered(1), registered(2), {**registered(3), "home_address": "2001:db8:bad::/64"}
    assert entry(lma, first, second) == [201, 201]
    moved = [{**each, "care_of_address": MAG_2, "timestamp": 200} for each in (first, second)]
    # One is older than what is held: nothing changes.
    assert entry(lma, moved[0], {**moved[1], "timestamp": 50}) == [409, 409]
    assert set(where(lma).values()) == {"2001:db8:2::2"}
    assert entry(lma, *moved) == [200, 200]
    assert set(where(lma).values()) == {MAG_2}
    # The LMA has taken one that can't be taken here: the mobile node is elsewhere with all of them.
    back = [{**each, "timestamp": 300} for each in (first, second, outside)]
    assert entry(lma, *back) == [422, 422, 422]
    assert where(lma) == {}
    assert entry(lma, *({**each, "timestamp": 400} for each in (first, second))) == [201, 201]


def test_one_entry_is_of_one_gateway(lma: Api) -> None:
    for bindings in ([registered(1), registered(2, care_of_address=MAG_2)], [registered(1), registered(1)]):
        problem(lma.call("POST", "/v1/bindings", {"bindings": bindings, "one_entry": True}), 422)
    several = [registered(number) for number in range(1, 102)]
    problem(lma.call("POST", "/v1/bindings", {"bindings": several, "one_entry": True}), 422)
    assert where(lma) == {}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "lifetime"),
        ({"lifetime": 0, "protocol": "mipv6", "timestamp": 1}, 422, "timestamp"),
        ({"lifetime": 0, "new_care_of_address": MAG_2}, 422, "new_care_of_address"),
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_a_bulk_update_has_to_say_what_to_do(
    api: Api, body: dict[str, Any], status: int, field: str, held: bool
) -> None:
    if held:
        api.call("POST", "/v1/bindings", BINDING)
    home_agent, care_of_address = BINDING["home_agent"], BINDING["care_of_address"]
    whole = {"care_of_address": care_of_address, "protocol": "mipv6", **body}
    refused = problem(api.call("POST", f"/v1/home-agents/{home_agent}/bindings", whole), status)
    assert [each["field"] for each in refused["errors"]] == [field]


def test_a_bulk_update_needs_an_announced_anchor(lma: Api) -> None:
    whole = {"care_of_address": MAG_2, "lifetime": 0}
    problem(lma.call("POST", "/v1/home-agents/2001:db8:97::1/bindings", whole), 404)


def test_what_is_explained_is_explained_in_the_words_of_the_protocol(lma: Api) -> None:
    lma.call("PUT", f"/v1/home-agents/{LMA}/bindings", {"bindings": [REGISTERED]})
    found = lma.get("/v1/bindings/2001:db8:f1:1::5/explain")
    assert found["reason"] == "no router is known to the controller"
    withheld = {**REGISTERED, "withheld": "GRE keys (RFC 5845)"}
    lma.call("POST", "/v1/bindings", withheld)
    found = lma.get("/v1/bindings/2001:db8:f1:1::5/explain")
    assert found["reason"] == "its mobile node is registered, but the bridge leaves it to the LMA (GRE keys (RFC 5845))"
    found = lma.get("/v1/bindings/2001:db8:f1:9::5/explain")
    said = " ".join([found["reason"], *found["would_change"]])
    assert f"a Proxy Binding Update that LMA {LMA} accepts" in said
    assert "home agent" not in said


@pytest.mark.parametrize(
    ("tunnel", "proxy_coa", "reason"),
    [
        ("gre", "2001:db8:2::2", "GRE carries its packets (RFC 5944; with keys RFC 5845), which routers do not"),
        ("ipv4", "192.0.2.2", OTHER_TUNNELS[Tunnel.IPV4]),
        ("udp", "192.0.2.2", OTHER_TUNNELS[Tunnel.UDP]),
    ],
)
def test_what_routers_can_not_carry_is_left_to_the_lma_with_the_reason(
    lma: Api, tunnel: str, proxy_coa: str, reason: str
) -> None:
    reported = {**REGISTERED, "tunnel": tunnel, "care_of_address": proxy_coa}
    answer = lma.call("POST", "/v1/bindings", reported)
    assert answer.status_code == 201
    assert answer.json is not None
    assert (answer.json["state"], answer.json["withheld"]) == ("withheld", reason)
    lma.call("PUT", f"/v1/home-agents/{LMA}/bindings", {"bindings": [reported]})
    assert reason in lma.get("/v1/bindings/2001:db8:f1:1::5/explain")["reason"]
    later = {"care_of_address": "192.0.2.2", "timestamp": REGISTERED["timestamp"] + 1}
    problem(lma.call("POST", "/v1/bindings", {**REGISTERED, **later}), 422)


def test_with_bindings_by_both_protocols_each_is_answered_for_itself(lma: Api) -> None:
    """RFC 6612: a home address that an LMA shows as /128, whose mobile node has registered elsewhere itself."""
    protocols = {"home_prefixes": ["2001:db8:f1::/48"], "lease": 10, "protocols": ["mipv6", "pmipv6"]}
    lma.call("PUT", f"/v1/home-agents/{LMA}", protocols)
    home = "2001:db8:f1:1::5"
    by_itself = {"home_address": home, "care_of_address": MAG_2, "home_agent": LMA, "lifetime": 60, "sequence": 1}
    lma.call("POST", "/v1/bindings", by_itself)
    posted = lma.call("POST", "/v1/bindings", {**REGISTERED, "home_address": home}).json
    assert posted is not None
    assert (posted["protocol"], posted["state"]) == ("pmipv6", "withheld")
    assert lma.get(f"/v1/bindings/{home}")["protocol"] == "mipv6"
    assert lma.get(f"/v1/bindings/{home}?protocol=mipv6")["withheld"] is None
    assert lma.get(f"/v1/bindings/{home}?protocol=pmipv6")["withheld"].startswith("the mipv6 binding")
    ended = lma.call("POST", "/v1/bindings", {**by_itself, "lifetime": 0, "sequence": 2}).json
    assert ended == {"home_address": home, "state": "removed"}
    problem(lma.call("GET", f"/v1/bindings/{home}?protocol=mipv6"), 404)
    assert lma.get(f"/v1/bindings/{home}")["protocol"] == "pmipv6"
