# SPDX-License-Identifier: Apache-2.0
"""The northbound API over the real core, in process: answers as the design has them, and refusals that lose nothing."""

from typing import Any

import pytest

from controller.core.traffic import UPLINK, Counters
from controller.core.urgency import MOST_EVENTS
from controller.traffic_history import KEPT
from tests.support.rest_api import BINDING, HOME_ADDRESS, HOME_AGENT, HOME_PREFIX, Api, problem

# What answers say of a binding whose report does not.
SAID_BY_DEFAULT = {"protocol": "mipv6", "timestamp": None, "identification": None, "reverse_tunnel": True}


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
        **SAID_BY_DEFAULT,
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
    assert answer.json == {
        **reported,
        "expires_in": pytest.approx(60, abs=1),
        "state": "withheld",
        "routers": {},
        **SAID_BY_DEFAULT,
    }
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
        "protocols": ["mipv6"],
        "group": None,
        "owner": None,
    }
    problem(api.call("GET", "/readyz"), 503)
    api.call("PUT", f"/v1/home-agents/{HOME_AGENT}/bindings", {"bindings": [BINDING]})
    renewed = api.announce(status="ha-down").json
    assert renewed is not None
    assert (renewed["status"], renewed["snapshot"], renewed["bindings"]) == ("ha-down", "held", 1)
    assert [agent["home_agent"] for agent in api.get("/v1/home-agents")["home_agents"]] == [HOME_AGENT]


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
    api.offload.acknowledge(1, 0, {}, {}, {}, now=1.0)
    router = api.offload.router(1)
    for moment in range(KEPT + 2):
        router.traffic.observe(UPLINK, Counters(moment, 100 * moment))
        api.traffic.take(1_800_000_000 + 10 * moment)
    first = api.get("/v1/traffic")
    assert first["samples"][0] == {"time": "2027-01-15T08:00:20.000Z", "downlink": 0, "uplink": 200}
    rest = api.get(f"/v1/traffic?limit=1000&cursor={first['next']}")
    assert (len(first["samples"]), len(rest["samples"])) == (100, KEPT - 100)
    assert rest["samples"][-1]["uplink"] == 100 * (KEPT + 1)


def test_a_controller_by_itself_is_its_only_member(api: Api) -> None:
    shown = api.get("/v1/cluster")
    assert (shown["cluster"], shown["member"], shown["etcd"], shown["routers"]) == (None, "controller-1", None, [])
    assert [(each["name"], each["url"]) for each in shown["members"]] == [("controller-1", None)]
    assert shown["address"] == "localhost:80", "as the test's requests have it"


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
    addresses = [f"2001:db8:99::{number:x}" for number in range(1, MOST_EVENTS + 100)]
    bindings = [{**BINDING, "home_address": address} for address in addresses]
    for start in range(0, len(bindings), 500):
        api.call("POST", "/v1/bindings", {"bindings": bindings[start : start + 500]})
    failed = [{"home_address": address, "reason": "no room"} for address in addresses]
    api.call("PUT", "/v1/routers/1/tunnels/ack", {"revision": 0, "failed": failed})
    names = [event.name for event in api.offload.take_events()]
    assert names.count("tunnel-failed") == MOST_EVENTS


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


def test_the_process_lives() -> None:
    assert Api().get("/healthz") == {"status": "ok"}
