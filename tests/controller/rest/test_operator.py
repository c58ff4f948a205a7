# SPDX-License-Identifier: Apache-2.0
"""What an operator asks of a controller with a real Open vSwitch: explain, drain, diff, readiness."""

import http.client
import signal
from typing import Any

from hoaflow.scope import THIS_MEMBER
from tests.support.bench import (
    FIRST,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_PREFIX,
    INTO_TUNNEL,
    REVERSE,
    SECOND,
    Bench,
)
from tests.support.controller import OPENFLOW_PORT, REST_PORT, TIMEOUT
from tests.support.waiting import wait_for

ROUTER = "0000000000000001"


def explain(bench: Bench, home_address: str = HOME_ADDRESS) -> Any:
    """Return the answer of the call, with lease and agent kept alive."""
    bench.announce()
    return bench.controller.get(f"/v1/bindings/{home_address}/explain")


def test_a_direct_path_is_explained(bench: Bench) -> None:
    found = explain(bench, "2001:DB8:99:0:0:0:0:0100")
    assert (found["home_address"], found["path"]) == (HOME_ADDRESS, "direct")
    assert f"straight to {FIRST}" in found["reason"]
    assert found["since"]
    assert found["binding"]["care_of_address"] == FIRST
    assert found["home_agent"]["home_agent"] == HOME_AGENT
    router = found["routers"][ROUTER]
    assert (router["backend"], router["state"], router["gate"]["open"]) == ("route", "active", True)
    assert router["gate"]["expires_in"] > 0
    assert {flow["kind"] for flow in router["flows"]} == {"downlink", "uplink"}
    assert [(update["source"], update["result"]) for update in found["updates"]] == [("post", "added")]
    for wrong, status in (("2001:db8:77::1", 404), ("x", 422), ("2001:db8:99::/63", 404)):
        assert bench.controller.call("GET", f"/v1/bindings/{wrong}/explain").status == status
    for spelled in ("2001:db8:99::/96", "2001:db8:99::%2F96"):
        assert explain(bench, spelled)["path"] == "home"


def test_flows_are_filtered(bench: Bench) -> None:
    def kinds(query: str) -> list[str]:
        flows = bench.controller.get(f"/v1/routers/{ROUTER}/flows?{query}")["flows"]
        return sorted(flow["kind"] for flow in flows)

    assert kinds("kind=gate") == ["gate", "gate"]
    assert kinds(f"home_address={HOME_ADDRESS}") == ["downlink", "uplink"]
    assert kinds("home_address=2001:db8:99::7") == []


def test_the_home_agents_path_is_explained(bench: Bench) -> None:
    bench.post(sequence=2, lifetime=0)
    gone = explain(bench)
    assert (gone["path"], gone["binding"], gone["updates"][-1]["result"]) == ("home", None, "removed")
    answer = bench.controller.call(
        "POST",
        "/v1/bindings",
        {"home_address": HOME_ADDRESS, "care_of_address": SECOND, "home_agent": HOME_AGENT, "lifetime": 60},
    )
    assert answer.status == 201
    waiting = explain(bench)
    assert waiting["path"] == "home-agent"
    assert "has not acknowledged the tunnel yet" in waiting["reason"]
    assert waiting["would_change"]


def test_a_drained_router_gives_all_traffic_back_and_does_not_forget(bench: Bench) -> None:
    path = f"/v1/routers/{ROUTER}/drain"
    assert bench.controller.get(f"/v1/routers/{ROUTER}")["gates"]
    before = set(bench.flows())
    drained = bench.controller.put(path, None)
    assert (drained["draining"], drained["gates"]) == (True, [])
    assert "NORMAL" in bench.trace()
    assert "NORMAL" in bench.trace(**REVERSE)
    assert before - set(bench.flows()) == {flow for flow in before if "goto_table" in flow}
    wait_for("the log tells of it", lambda: "event=router-drained" in bench.controller.log)
    bench.post(SECOND, 2)  # a handover meanwhile
    found = explain(bench)
    assert (found["path"], found["routers"][ROUTER]["draining"]) == ("home-agent", True)
    assert "the router is drained" in found["reason"]
    assert any(ROUTER in text and "undrain" in text for text in found["would_change"])

    def back_and_drained() -> bool:
        bench.announce()
        bench.agent()
        router = bench.controller.get(f"/v1/routers/{ROUTER}")
        assert not router["gates"]
        return bool(router["connected"] and router["draining"])

    bench.controller.kill()
    bench.controller.start()
    wait_for("the restarted controller knows it", back_and_drained)
    bench.announce()
    bench.snapshot({"home_address": HOME_ADDRESS, "care_of_address": SECOND, "lifetime": 60})
    bench.agent()
    bench.ovs.vsctl("del-controller", "br0")
    wait_for("the switch is away", lambda: not bench.controller.get(f"/v1/routers/{ROUTER}")["connected"])
    for method in ("PUT", "DELETE"):
        refused = bench.controller.call(method, path)
        assert refused.status == 503
        assert "not connected" in refused.body["detail"]
    bench.ovs.ofctl("del-flows", "br0")  # as a switch that is switched off and on
    bench.ovs.vsctl("set-controller", "br0", f"tcp:127.0.0.1:{OPENFLOW_PORT}")
    wait_for("the switch is back and drained", back_and_drained)
    undrained = bench.controller.call("DELETE", path)
    assert (undrained.status, undrained.body["draining"]) == (200, False)
    wait_for("it goes direct again", lambda: bench.is_active() and INTO_TUNNEL in bench.trace())
    assert not any("100::/64" in flow for flow in bench.flows())


def test_a_call_passed_on_is_too_late_when_its_sender_has_hung_up(bench: Bench) -> None:
    controller, path = bench.controller, f"/v1/routers/{ROUTER}/drain"
    controller.put(path, None)
    controller.send_signal(signal.SIGSTOP)
    try:
        with bench.ovs.inside():
            connection = http.client.HTTPConnection("127.0.0.1", REST_PORT, timeout=TIMEOUT)
            connection.request("DELETE", path, headers=THIS_MEMBER)
        connection.close()
    finally:
        controller.send_signal(signal.SIGCONT)
    wait_for("it is refused", lambda: f"method=DELETE path={path} result=503" in controller.log)
    assert controller.get(f"/v1/routers/{ROUTER}")["draining"] is True
    assert controller.call("DELETE", path, headers=THIS_MEMBER).body["draining"] is False


def test_draining_twice_and_unknown_routers(bench: Bench) -> None:
    for _ in range(2):
        assert bench.controller.put(f"/v1/routers/{ROUTER}/drain", None)["draining"] is True
    for _ in range(2):
        assert bench.controller.call("DELETE", f"/v1/routers/{ROUTER}/drain").body["draining"] is False
    wait_for("the log tells of the end", lambda: "event=router-undrained" in bench.controller.log)
    assert bench.controller.log.count("event=router-drained") == 1
    for method in ("PUT", "DELETE"):
        assert bench.controller.call(method, "/v1/routers/7/drain").status == 404


def test_what_somebody_changed_in_the_switch_is_shown(bench: Bench) -> None:
    path = f"/v1/routers/{ROUTER}/diff"

    def difference() -> Any:
        bench.announce()
        return bench.controller.get(path)

    nothing: dict[str, list[object]] = {"missing": [], "unexpected": [], "different": []}
    totals = dict.fromkeys(nothing, 0)
    assert difference() == {"in_sync": True, **nothing, "totals": totals}
    downlink = f"table=1,priority=100,ipv6,ipv6_dst={HOME_ADDRESS}"
    bench.ovs.ofctl("--strict", "mod-flows", "br0", f"{downlink},actions=drop")
    # The controller hears at once of the end of its flows, but not of one that somebody else put in such a one's place.
    guard = f"table=0,priority=300,ipv6,ipv6_dst={HOME_PREFIX},nw_proto=135"
    bench.ovs.ofctl("add-flow", "br0", f"cookie=0x686f616600000002,{guard},actions=NORMAL")
    bench.ovs.ofctl("--strict", "del-flows", "br0", guard)
    bench.ovs.ofctl("add-flow", "br0", "cookie=0x686f616600000005,table=2,priority=100,ipv6,nw_proto=41,actions=NORMAL")
    found = difference()
    assert found["in_sync"] is False
    assert found["totals"] == {"missing": 1, "unexpected": 1, "different": 1}
    assert (found["missing"][0]["kind"], found["missing"][0]["serves"]) == ("guard", HOME_PREFIX)
    assert found["missing"][0]["reason"] is None
    assert found["unexpected"][0]["flow"].endswith("actions=NORMAL")
    assert found["different"][0]["desired"]["flow"].endswith("output:3")
    assert found["different"][0]["installed"]["flow"].endswith("actions=drop")
    assert difference()["totals"] == found["totals"], "it repairs nothing"
    assert bench.controller.get(f"{path}?limit=1")["totals"] == found["totals"]
    bench.ovs.vsctl("del-controller", "br0")
    wait_for("the switch is away", lambda: not bench.controller.get(f"/v1/routers/{ROUTER}")["connected"])
    assert bench.controller.call("GET", path).status == 503
    assert bench.controller.call("GET", "/v1/routers/7/diff").status == 404


def test_readiness_says_what_is_missing(bench: Bench) -> None:
    def missing() -> dict[str, str]:
        answer = bench.controller.call("GET", "/readyz")
        if answer.status == 200:
            assert answer.body == {"status": "ready", "home_agents": 1, "routers": 1}
            return {}
        assert answer.status == 503
        return {error["field"]: error["reason"] for error in answer.body["errors"]}

    bench.announce()
    assert missing() == {}
    assert [bench.controller.call(method, "/healthz").status for method in ("GET", "HEAD", "OPTIONS")] == [
        200,
        200,
        204,
    ]
    bench.ovs.vsctl("del-controller", "br0")
    lost = wait_for("the switch is away", missing)
    assert "not connected" in lost[f"routers/{ROUTER}"]
    assert lost["routers"] == "no switch is connected"
    wait_for("the lease has lapsed", lambda: len(missing()) == 3)
    assert "has not renewed its lease" in missing()[f"home-agents/{HOME_AGENT}"]
    bench.announce()
    assert "snapshot has not come" in missing()[f"home-agents/{HOME_AGENT}"]
    bench.ovs.vsctl("set-controller", "br0", f"tcp:127.0.0.1:{OPENFLOW_PORT}")
    bench.snapshot()
    wait_for("all is well", lambda: bench.announce() and not missing())
    bench.controller.put(f"/v1/routers/{ROUTER}/drain", None)
    bench.ovs.vsctl("del-controller", "br0")
    wait_for("nothing but a drained router is away", lambda: bench.announce() and missing().keys() == {"routers"})
