# SPDX-License-Identifier: Apache-2.0
"""Any member takes any call: real controllers, etcd and switches, and the command line. The tests are one story."""

import json
import re
from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import expect

from tests.support.bench import FIRST, HOME_ADDRESS, HOME_AGENT, SECOND, binding
from tests.support.browser import Browser
from tests.support.cluster import Cluster, Member
from tests.support.operator import Operator
from tests.support.ovs import Ovs
from tests.support.scrape import Scrape
from tests.support.waiting import wait_for

DRAINED = 1
MASTERED = "hoaflow_router_mastered"
# What etcd holds below `/hoaflow/hoaflow/`: texts, and the members of JSON objects.
MEMBER = {"url", "started", "version", "connected", "home_agents"}
HELD: dict[str, str | set[str]] = {
    "identity": "[0-9a-f]{32}",
    **dict.fromkeys(("members/c1", "members/c2", "members/c3"), MEMBER),
    "routers/DPID/master": {"member", "since", "reason"},
    "routers/DPID/generation": "[0-9]+",
    "routers/DPID/drained": "",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Provide a cluster in which each member is master of a router, and a mobile node's traffic goes direct."""
    directory = tmp_path_factory.mktemp("cluster")
    (directory / "ovs").mkdir()
    with Ovs(directory / "ovs") as ovs, Cluster(ovs, directory) as running:
        running.post(binding(FIRST, 1))
        wait_for("each member has a router", lambda: sorted((running.all_mastered() or {}).values()) == NAMES)
        wait_for("traffic goes direct", lambda: all_direct(running, FIRST))
        yield running
        running.assert_logs_clean()


NAMES = ["c1", "c2", "c3"]


def all_direct(cluster: Cluster, care_of_address: str) -> bool:
    return all(cluster.is_direct(dpid, care_of_address) for dpid in cluster.dpids)


def states(member: Member) -> dict[str, str]:
    """Return how the binding stands on each router, as a member tells everybody."""
    answer = member.call("GET", f"/v1/bindings/{HOME_ADDRESS}")
    return {dpid: each["state"] for dpid, each in answer.body["routers"].items()} if answer.status == 200 else {}


def all_active(member: Member) -> bool:
    return list(states(member).values()) == ["active"] * 3


def master_of(member: Member, dpid: int) -> str | None:
    """Return a router's master, as a member knows it."""
    found: dict[int, str | None] = {
        int(each["dpid"], 16): each["master"] for each in member.get("/v1/cluster")["routers"]
    }
    return found.get(dpid)


def test_any_member_shows_all_routers(cluster: Cluster) -> None:
    for member in cluster.members:
        wait_for("all is active", partial(all_active, member))
        assert member.get("/v1/bindings?state=active")["bindings"][0]["state"] == "active"
        explained = member.get(f"/v1/bindings/{HOME_ADDRESS}/explain")
        assert explained["reason"] == f"all 3 prepared routers send its packets straight to {FIRST}"
        assert [len(router["gates"]) > 0 for router in member.get("/v1/routers")["routers"]] == [True] * 3
        for dpid in cluster.dpids:
            kinds = {flow["kind"] for flow in member.get(f"/v1/routers/{dpid}/flows")["flows"]}
            assert {"downlink", "verify", "gate"} <= kinds
            assert member.get(f"/v1/routers/{dpid}/diff")["in_sync"]


def test_the_command_line_shows_the_cluster(cluster: Cluster) -> None:
    hoaflow = Operator(cluster.ovs)
    shown = hoaflow("--controller", "http://127.0.0.2:8080", "cluster").out
    assert "cluster hoaflow, as c2 knows it" in shown
    assert "etcd answers" in shown
    for name in NAMES:
        assert f"{name} " in shown
    said = hoaflow.json("--controller", "http://127.0.0.3:8080", "cluster")
    assert {int(each["dpid"], 16): each["master"] for each in said["routers"]} == cluster.masters()


def test_the_dashboard_shows_members_and_masters_with_since_when_and_why(cluster: Cluster) -> None:
    asked = cluster.members[1]
    with cluster.ovs.inside(), Browser(asked.url) as browser:
        page = browser.open("/")
        expect(page.locator("#cluster-words")).to_contain_text("hoaflow, as c2 knows it; etcd answers since ")

        def is_as_told() -> bool:
            members, routers = (page.locator(f"{each} tr").all() for each in ("#members", "#routers"))
            shown = {row.locator("th").inner_text(): row.inner_text() for row in (*members, *routers)}
            why = [row.locator("td").first.get_attribute("title") or "" for row in routers]
            told = asked.get("/v1/cluster")["routers"]
            return all(
                f"router {int(each['dpid'], 16)}" in shown.get(each["master"], "")
                and f"master: {each['master']}" in shown.get(f"router {int(each['dpid'], 16)}", "")
                and any(text.startswith("since ") and text.endswith(f": {each['reason']}") for text in why)
                for each in told
            )

        wait_for("it shows what the API says", is_as_told)
        browser.assert_well()


def test_metrics_tell_members_and_masters(cluster: Cluster) -> None:
    found = [Scrape(member.text("/metrics").body) for member in cluster.members]
    assert [each("hoaflow_cluster_members") for each in found] == [3, 3, 3]
    assert [each("hoaflow_cluster_etcd_reachable") for each in found] == [1, 1, 1]

    def mastered() -> dict[int, str]:
        scrapes = {member.name: Scrape(member.text("/metrics").body) for member in cluster.members}
        return {int(dpid, 16): name for name, each in scrapes.items() for dpid in each.by("router", MASTERED)}

    wait_for("each tells of its own routers", lambda: mastered() == cluster.masters())


def test_a_binding_posted_to_one_member_goes_direct_everywhere(cluster: Cluster) -> None:
    answer = cluster.members[2].call("POST", "/v1/bindings?wait=active", binding(SECOND, 2))
    assert (answer.status, answer.body["state"], len(answer.body["routers"])) == (200, "active", 3)
    assert all_direct(cluster, SECOND)


def test_a_router_drained_at_any_member_stays_so_under_another_master(cluster: Cluster) -> None:
    path = f"/v1/routers/{DRAINED}"
    (dead,) = (member for member in cluster.members if member.name == cluster.masters()[DRAINED])
    alive = next(member for member in cluster.members if member is not dead)
    assert alive.call("PUT", f"{path}/drain").body["draining"] is True
    assert not cluster.is_direct(DRAINED, SECOND)
    dead.pause()
    # The switch has forgotten it, as one that is set up anew has; etcd keeps it for whoever is master next.
    cluster.ovs.ofctl("del-flows", f"br{DRAINED}")
    refused = alive.call("PUT", f"{path}/drain")
    assert refused.status == 503
    assert "no answer as long as it was the master, which it is not any more" in refused.body["detail"]
    dead.kill()
    wait_for("it has another master", lambda: master_of(alive, DRAINED) not in (None, dead.name))
    wait_for("which has read its flows", lambda: alive.call("GET", f"{path}/flows").status == 200)
    wait_for("its flows are back", lambda: alive.get(f"{path}/diff")["in_sync"])
    assert alive.get(path)["draining"] is True
    assert not cluster.is_direct(DRAINED, SECOND)
    assert alive.call("DELETE", f"{path}/drain").body["draining"] is False
    wait_for("its traffic goes direct again", lambda: cluster.is_direct(DRAINED, SECOND))
    dead.start()
    wait_for("the dead member is back", lambda: [each["name"] for each in alive.get("/v1/cluster")["members"]] == NAMES)


def test_a_change_that_a_member_has_not_made_is_refused_and_names_it(cluster: Cluster) -> None:
    stopped = cluster.members[2]
    stopped.pause()
    try:
        refused = cluster.members[0].call("DELETE", f"/v1/bindings/{HOME_ADDRESS}")
    finally:
        stopped.resume()
    assert refused.status == 503
    assert [error["field"] for error in refused.body["errors"]] == ["c3"]
    assert refused.body["detail"].startswith("done by c1, c2, but not by c3: ")
    wait_for("no traffic goes direct", lambda: not any(cluster.is_direct(dpid, SECOND) for dpid in cluster.dpids))


def test_etcd_holds_members_and_masters_and_never_a_binding(cluster: Cluster) -> None:
    """All that was ever written there, whatever bridges, operators and dead members have made of it so far."""
    cluster.post(binding(FIRST, 3))
    wait_for("traffic goes direct again", lambda: all_direct(cluster, FIRST))
    seen = set()
    for key, value in cluster.etcd.history():
        name = re.sub("[0-9a-f]{16}", "DPID", key.removeprefix("/hoaflow/hoaflow/"))
        assert name in HELD, f"{key} holds {value}"
        expected = HELD[name]
        if isinstance(expected, set):
            assert json.loads(value).keys() == expected, key
            assert json.loads(value).get("home_agents") in (None, [], [HOME_AGENT]), key
        else:
            assert re.fullmatch(expected, value), f"{key} holds {value}"
        seen.add(name)
    assert seen == HELD.keys()


def test_a_member_that_has_anothers_url_is_noticed(cluster: Cluster) -> None:
    asked, copied, _ = cluster.members
    copied.kill()
    copied.say_url(asked.url)
    copied.start()
    wait_for("it is told", lambda: asked.events("member-url-shared"))
    why = f"{asked.url} is not c2: is its member_url right?"
    refused = asked.call("DELETE", f"/v1/bindings/{HOME_ADDRESS}")
    assert (refused.status, refused.body["errors"]) == (503, [{"field": "c2", "reason": why}])
    wait_for("it is master again", lambda: "c2" in cluster.masters().values(), 60)
    (unanswered,) = asked.get("/v1/routers")["unanswered"]
    assert (unanswered["member"], unanswered["reason"], len(unanswered["routers"])) == ("c2", why, 1)
