# SPDX-License-Identifier: Apache-2.0
"""Any member of a cluster takes any call, and whoever has to act does, exactly once."""

import pytest

from hoaflow.scope import THIS_MEMBER
from tests.support.rest_api import BINDING, HOME_ADDRESS, problem
from tests.support.rest_members import PlayedCluster

ONE, TWO = f"{1:016x}", f"{2:016x}"


@pytest.fixture
def cluster() -> PlayedCluster:
    """Provide three members, of which two are master of a router each, and a home agent."""
    made = PlayedCluster("a", "b", "c")
    made.announce()
    made.add_router(1, "a")
    made.add_router(2, "b")
    made.settle()
    return made


def reported(cluster: PlayedCluster) -> None:
    """Have every member's bridge report a binding, and the switches carry it out."""
    for api in cluster.apis.values():
        assert api.call("POST", "/v1/bindings", BINDING, headers=THIS_MEMBER).status_code == 201
    cluster.settle()


@pytest.mark.parametrize("asked", ["a", "b", "c"])
def test_any_member_shows_a_binding_on_all_routers(cluster: PlayedCluster, asked: str) -> None:
    reported(cluster)
    api = cluster.apis[asked]
    one = api.get(f"/v1/bindings/{HOME_ADDRESS}")
    assert (one["state"], {dpid: each["state"] for dpid, each in one["routers"].items()}) == (
        "active",
        {ONE: "active", TWO: "active"},
    )
    (listed,) = api.get("/v1/bindings?state=active")["bindings"]
    assert {**listed, "expires_in": one["expires_in"]} == one
    assert api.get("/v1/bindings?state=partial")["bindings"] == []
    explained = api.get(f"/v1/bindings/{HOME_ADDRESS}/explain")
    assert explained["path"] == "direct"
    assert explained["reason"] == "all 2 prepared routers send its packets straight to 2001:db8:2::2"
    assert all(each["flows"] for each in explained["routers"].values())
    assert [each["dpid"] for each in api.get("/v1/routers")["routers"]] == [ONE, TWO]


def test_any_member_explains_in_the_words_of_the_protocol(cluster: PlayedCluster) -> None:
    lma = {"home_prefixes": ["2001:db8:f1::/48"], "lease": 10, "protocols": ["pmipv6"]}
    registered = {**BINDING, "protocol": "pmipv6", "home_address": "2001:db8:f1:1::/64", "home_agent": "2001:db8:98::1"}
    for api in cluster.apis.values():
        for path, body in (("", lma), ("/bindings", {"bindings": [registered]}), ("", {**lma, "status": "ha-down"})):
            answer = api.call("PUT", f"/v1/home-agents/2001:db8:98::1{path}", body, headers=THIS_MEMBER)
            assert answer.status_code in (200, 201), answer.json
    cluster.settle()
    explained = cluster.apis["a"].get("/v1/bindings/2001:db8:f1:1::/64/explain")
    assert explained["reason"].endswith("straight to 2001:db8:2::2 until its lifetime ends, as the LMA is down")
    assert {each["reason"] for each in explained["routers"].values()} == {"its packets go straight to the Proxy-CoA"}


def test_what_a_silent_master_knows_is_unknown_and_all_else_is_shown(cluster: PlayedCluster) -> None:
    reported(cluster)
    cluster.silent.add("b")
    api = cluster.apis["c"]
    one = api.get(f"/v1/bindings/{HOME_ADDRESS}")
    assert (one["state"], one["routers"][ONE]["state"], one["routers"][TWO]["state"]) == (
        "partial",
        "active",
        "unknown",
    )
    assert one["routers"][TWO]["reason"] == "its master b has not answered: no answer within 5 s"
    explained = api.get(f"/v1/bindings/{HOME_ADDRESS}/explain")
    assert explained["path"] == "mixed"
    assert explained["reason"].endswith(f"but on router {TWO}, its master b has not answered: no answer within 5 s")
    listed = api.get("/v1/routers")
    assert [each["dpid"] for each in listed["routers"]] == [ONE]
    assert listed["unanswered"] == [{"member": "b", "reason": "no answer within 5 s", "routers": [TWO]}]
    assert api.get("/v1/bindings")["unanswered"] == listed["unanswered"]
    assert "has not answered" in problem(api.call("GET", f"/v1/routers/{TWO}"), 503)["detail"]


def test_a_router_without_master_is_unknown_and_says_why(cluster: PlayedCluster) -> None:
    reported(cluster)
    cluster.masters[2] = None
    shown = cluster.apis["a"].get(f"/v1/bindings/{HOME_ADDRESS}")
    assert (shown["state"], shown["routers"][TWO]["state"]) == ("partial", "unknown")
    assert shown["routers"][TWO]["reason"] == "no member of the cluster is its master at present"
    del cluster.masters[2]
    shown = cluster.apis["a"].get(f"/v1/bindings/{HOME_ADDRESS}")
    assert shown["routers"][TWO]["reason"] == "its switch is connected to no member of the cluster"


def test_an_answer_of_another_version_is_no_answer(cluster: PlayedCluster) -> None:
    reported(cluster)
    cluster.newer.add("b")
    (unanswered,) = cluster.apis["c"].get("/v1/bindings")["unanswered"]
    assert (unanswered["member"], unanswered["routers"]) == ("b", [TWO])
    assert unanswered["reason"].startswith("its answer is of another version: ")


def test_the_head_of_an_answer_is_put_together_as_well(cluster: PlayedCluster) -> None:
    reported(cluster)
    for path in ("/v1/bindings", f"/v1/bindings/{HOME_ADDRESS}", "/v1/routers", f"/v1/routers/{TWO}"):
        answer = cluster.apis["c"].call("HEAD", path)
        assert (answer.status_code, answer.data) == (200, b""), path


def test_a_page_of_bindings_ends_where_the_first_member_has_no_more(cluster: PlayedCluster) -> None:
    homes = [f"2001:db8:99::{number:x}" for number in range(0x100, 0x10C)]
    for name, api in cluster.apis.items():
        for home in homes if name != "c" else homes[1::2]:  # c has half of them, and still shows all
            api.call("POST", "/v1/bindings", {**BINDING, "home_address": home}, headers=THIS_MEMBER)
    cluster.settle()
    for api in cluster.apis.values():
        seen, cursor = [], ""
        for _ in range(len(homes)):
            page = api.get(f"/v1/bindings?limit=5{cursor}")
            seen += [(each["home_address"], each["state"]) for each in page["bindings"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == [(home, "active") for home in sorted(homes)]


def test_a_binding_posted_to_one_member_reaches_all_of_them_once(cluster: PlayedCluster) -> None:
    answer = cluster.apis["c"].call("POST", "/v1/bindings", BINDING)
    assert answer.status_code == 201
    assert [api.held() for api in cluster.apis.values()] == [[(HOME_ADDRESS, "2001:db8:2::2", 31552)]] * 3
    posts = [(to, method) for to, method, _ in cluster.calls if method == "POST"]
    assert posts == [("a", "POST"), ("b", "POST")]  # by c, and passed on by nobody
    several = {"bindings": [{**BINDING, "sequence": 31553}, {**BINDING, "home_address": "2001:db8:98::1"}]}
    results = cluster.apis["a"].call("POST", "/v1/bindings", several).json
    assert results is not None
    assert [each["status"] for each in results["results"]] == [200, 422]


def test_a_bulk_update_reaches_all_members(cluster: PlayedCluster) -> None:
    reported(cluster)
    body = {"care_of_address": BINDING["care_of_address"], "lifetime": 0, "protocol": "mipv6"}
    ended = cluster.apis["c"].call("POST", f"/v1/home-agents/{BINDING['home_agent']}/bindings", body)
    assert ended.json is not None
    assert ended.json["removed"] == 1
    assert [api.held() for api in cluster.apis.values()] == [[], [], []]


def test_bridges_tell_each_member_themselves(cluster: PlayedCluster) -> None:
    cluster.apis["c"].call("POST", "/v1/bindings", BINDING, headers=THIS_MEMBER)
    assert cluster.calls == []
    assert cluster.apis["a"].held() == []


def test_a_change_that_some_members_have_not_made_is_refused_and_says_who(cluster: PlayedCluster) -> None:
    cluster.silent.add("b")
    refused = problem(cluster.apis["a"].call("POST", "/v1/bindings", BINDING), 503)
    assert refused["detail"].startswith("done by a, c, but not by b: no answer within 5 s")
    assert refused["errors"] == [{"field": "b", "reason": "no answer within 5 s"}]
    cluster.silent.clear()
    assert cluster.apis["a"].call("POST", "/v1/bindings", BINDING).status_code == 200
    cluster.silent.add("c")
    assert problem(cluster.apis["b"].call("DELETE", f"/v1/bindings/{HOME_ADDRESS}"), 503)["errors"][0]["field"] == "c"
    cluster.silent.clear()
    assert cluster.apis["b"].call("DELETE", f"/v1/bindings/{HOME_ADDRESS}").status_code == 204
    assert [api.held() for api in cluster.apis.values()] == [[], [], []]
    problem(cluster.apis["b"].call("DELETE", f"/v1/bindings/{HOME_ADDRESS}"), 404)


def test_what_all_members_refuse_is_refused_as_by_one(cluster: PlayedCluster) -> None:
    strange = {**BINDING, "home_address": "2001:db8:98::1"}
    assert problem(cluster.apis["c"].call("POST", "/v1/bindings", strange), 422)["errors"][0]["field"] == "home_address"


def test_calls_on_a_router_are_its_masters(cluster: PlayedCluster) -> None:
    assert cluster.apis["c"].get(f"/v1/routers/{TWO}")["connected"] is True
    # The switch does not confirm it here, and b says so; nobody else has drained it.
    assert "has not confirmed it" in problem(cluster.apis["c"].call("PUT", f"/v1/routers/{TWO}/drain"), 503)["detail"]
    assert [(to, method) for to, method, _ in cluster.calls] == [("b", "GET"), ("b", "PUT")]
    assert cluster.apis["b"].offload.router(2).gates.draining
    assert not cluster.apis["c"].offload.router(2).gates.draining


@pytest.mark.parametrize("successor", ["a", "c", None])
def test_a_stopped_master_is_waited_for_only_until_it_is_replaced(
    cluster: PlayedCluster, successor: str | None
) -> None:
    cluster.stopped["b"] = lambda: cluster.masters.update({2: successor})
    refused = problem(cluster.apis["c"].call("DELETE", f"/v1/routers/{TWO}/drain"), 503)
    assert refused["errors"] == [
        {"field": "b", "reason": "no answer as long as it was the master, which it is not any more"}
    ]
    assert refused["detail"].endswith("whether it has carried the call out is not known: call again")


def test_a_call_that_was_passed_on_is_not_passed_on_again(cluster: PlayedCluster) -> None:
    refused = problem(cluster.apis["c"].call("GET", f"/v1/routers/{TWO}", headers=THIS_MEMBER), 503)
    assert refused["detail"] == f"c is not the master of router {TWO} any more, b is; try again"
    reported(cluster)
    cluster.apis["a"].call("GET", "/v1/bindings", headers=THIS_MEMBER)
    assert cluster.calls == []


@pytest.mark.parametrize("answering", ["a", "c"])
def test_a_member_at_whose_url_another_one_answers_is_noticed(cluster: PlayedCluster, answering: str) -> None:
    reported(cluster)
    cluster.misdirected["b"] = answering
    why = "http://b:8080 is not b: is its member_url right?"
    api = cluster.apis["c"]
    listed = api.get("/v1/routers")
    assert [each["dpid"] for each in listed["routers"]] == [ONE]
    assert listed["unanswered"] == [{"member": "b", "reason": why, "routers": [TWO]}]
    shown = api.get(f"/v1/bindings/{HOME_ADDRESS}")
    assert shown["routers"][TWO]["reason"] == f"its master b has not answered: {why}"
    refused = problem(api.call("PUT", f"/v1/routers/{TWO}/drain"), 503)
    assert refused["detail"] == f"the master of router {TWO} has not answered: b: {why}"
    refused = problem(api.call("DELETE", f"/v1/bindings/{HOME_ADDRESS}"), 503)
    assert refused["errors"] == [{"field": "b", "reason": why}]
    assert [api.held() != [] for api in cluster.apis.values()] == [False, True, False]


def test_the_cluster_is_shown(cluster: PlayedCluster) -> None:
    shown = cluster.apis["c"].get("/v1/cluster")
    assert (shown["cluster"], shown["member"], shown["etcd"]["reachable"]) == ("played", "c", True)
    assert [(each["name"], each["routers"]) for each in shown["members"]] == [("a", 1), ("b", 1), ("c", 0)]
    assert [(each["dpid"], each["master"]) for each in shown["routers"]] == [(ONE, "a"), (TWO, "b")]
