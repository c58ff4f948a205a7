# SPDX-License-Identifier: Apache-2.0
"""Commands that look for what is wrong: explain, drain, diff and check-config."""

from pathlib import Path

import pytest

from hoaflow.cli.explain import show
from hoaflow.cli.output import Output
from tests.support.bench import HOME_ADDRESS, HOME_AGENT, Bench
from tests.support.operator import Operator
from tests.support.operator_bench import OTHER, UNBROKEN
from tests.support.waiting import wait_for


def test_explain_says_the_verdict_first_and_then_why(bench: Bench, hoaflow: Operator) -> None:
    said = hoaflow("explain", "2001:DB8:99::0100").out
    assert said.startswith(f"Packets for {HOME_ADDRESS} go direct: its home agent does not see them.\n")
    for part in ("2001:db8:2::2, active", "Router 000000000000001a: active", "route", "open, for", "added by snapshot"):
        assert part in said, said
    assert "What would change it\n  - " in said
    assert all(len(line) <= 80 or line.startswith(UNBROKEN) for line in said.splitlines()), said
    assert hoaflow.json("explain", HOME_ADDRESS)["path"] == "direct"


def test_explain_calls_an_lma_so(bench: Bench, hoaflow: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    found = hoaflow.json("explain", HOME_ADDRESS)
    found["home_agent"]["protocols"] = ["pmipv6"]
    show(Output(as_json=False), found)
    assert capsys.readouterr().out.startswith(f"Packets for {HOME_ADDRESS} go direct: its LMA does not see them.\n")


def test_explain_finds_why_a_mobile_node_goes_through_its_home_agent(bench: Bench, hoaflow: Operator) -> None:
    assert "go to its home link: no binding is held" in hoaflow("explain", OTHER).out
    bench.agent(0x1A, failed=[{"home_address": HOME_ADDRESS, "reason": "no buffer space"}])
    said = hoaflow("explain", HOME_ADDRESS).out
    assert said.startswith(f"Packets for {HOME_ADDRESS} go through its home agent.\n")
    assert "no buffer space" in said
    assert "the cause on the router removed" in said
    assert "lies in no home prefix" in hoaflow("explain", "2001:db8:1::1", status=1).err


def test_a_router_is_drained_and_taken_back(bench: Bench, hoaflow: Operator) -> None:
    assert "drained" in hoaflow("drain", "0x1a").out
    try:
        assert not [flow for flow in bench.flows() if "goto_table" in flow], "its gates are gone when it returns"
        assert " connected, drained " in hoaflow("routers").out
        assert "the router is drained" in hoaflow("explain", HOME_ADDRESS).out.replace("The router", "the router")
        assert hoaflow.json("drain", "1a")["draining"] is True
    finally:
        assert hoaflow.json("undrain", "1a")["draining"] is False
    wait_for("its gates are open again", lambda: bench.state() == "active")
    assert "no router 0000000000000007 is known" in hoaflow("drain", "7", status=1).err


def test_a_switch_that_differs_is_shown_flow_by_flow(own_bench: Bench, own_hoaflow: Operator) -> None:
    assert own_hoaflow("diff", "1a").out == "router 000000000000001a: in sync\n"
    # Of a flow that is gone the switch tells at once, of one that is changed it does not.
    own_bench.ovs.ofctl("mod-flows", "br0", "table=0,ipv6,nw_proto=135,actions=drop")
    own_bench.ovs.ofctl(
        "add-flow", "br0", "cookie=0x686f616600000004,table=1,priority=100,ipv6,ipv6_dst=::5,actions=drop"
    )
    said = own_hoaflow("diff", status=5).out
    assert said.startswith("router 000000000000001a: out of sync\n")
    assert "  - table=classify,priority=300,ipv6,ip_proto=135,ipv6_dst=2001:db8:99::/64" in said
    assert "  + table=downlink,priority=100,ipv6,ipv6_dst=::5" in said
    assert own_hoaflow.json("diff", status=5)["routers"][0]["in_sync"] is False


def test_a_configuration_is_checked_by_the_controllers_own_code(
    bench: Bench, hoaflow: Operator, tmp_path: Path
) -> None:
    path = tmp_path / "controller.conf"
    path.write_text("[hoaflow]\nagent_lease = 5\n")
    said = hoaflow("check-config", "--config-file", str(path)).out
    assert [line.split()[:2] for line in said.splitlines() if not line.startswith(" ")] == [
        ["ok", what] for what in ("settings", "REST", "OpenFlow", "controller", "access", "ready", "offload")
    ]
    assert "1 of" in said
    wrong = {
        "[hoaflow]\nagent_leese = 5\n": "has no setting 'agent_leese'",
        "[DEFAULT]\nwsapi_hots = ::1\n": "[DEFAULT] wsapi_hots has no effect",
        "[DEFAULT]\nctl_cert = /nowhere\n": "OpenFlow over TLS needs",
        "[hoaflow]\netcd = https://[::1]:2379\netcd_ca = /dev/null\n": "etcd_ca /dev/null: expected certificates",
    }
    for text, reason in wrong.items():
        path.write_text(text)
        checked = hoaflow.json("check-config", "--no-connect", "--config-file", str(path), status=5)
        assert not checked["healthy"]
        assert any(reason in found["said"] for found in checked["findings"] if found["result"] == "wrong"), checked


def test_check_config_does_not_pass_where_it_checks_nothing(own_hoaflow: Operator) -> None:
    assert "give --config-file" in own_hoaflow("check-config", "--no-connect", status=2).err


def test_check_config_says_what_keeps_it_from_the_controller(own_hoaflow: Operator) -> None:
    checked = own_hoaflow.json("check-config", status=5)
    assert [(found["what"], found["result"]) for found in checked["findings"]] == [("controller", "wrong")]
    assert "Connection refused" in checked["findings"][0]["said"]


def test_check_config_is_not_content_with_an_idle_controller(own_bench: Bench, own_hoaflow: Operator) -> None:
    """`ready` holds where every router is drained, and where no home agent was ever announced."""

    def findings(status: int) -> dict[str, tuple[str, str]]:
        checked = own_hoaflow.json("check-config", status=status)
        return {found["what"]: (found["result"], found["said"]) for found in checked["findings"]}

    assert findings(0)["offload"][0] == "ok"
    own_hoaflow("drain", "1a")
    drained = findings(5)
    assert drained["ready"][0] == "ok"
    assert drained["offload"] == (
        "wrong",
        f"no router takes packets off home agent {HOME_AGENT}: 1 of 1 known routers drained; "
        "'hoaflow routers' shows what they lack",
    )
    own_bench.controller.kill()
    own_bench.controller.start()
    assert "no home agent is announced" in findings(5)["offload"][1]
