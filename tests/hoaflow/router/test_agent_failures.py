# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router run` when the controller fails on demand, the agent is killed or bindings are refused."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from hoaflow.tunnel.seg6 import Seg6Routes
from hoaflow.tunnel.spoofing_filter import SourcePair
from tests.support.fake_controller import FakeController
from tests.support.ovs import Ovs
from tests.support.router_agent import MNP, AgentProcess, accepted, installed, offload
from tests.support.router_lab import COA, COA_2, HA, HA_2, HOA, OTHER_HOA, RouterLab, until


def test_what_is_acknowledged_is_in_the_kernel(lab: RouterLab, controller: FakeController, agent: AgentProcess) -> None:
    """At each acknowledgement, not some time later: the controller installs the flow on it."""
    controller.know(HA)
    for number in range(1, 20):
        controller.bind(HOA, f"2001:db8:2::{number:x}", HA)
        until(controller.up_to_date, "the binding is applied")
        assert installed(lab) == {HOA: f"2001:db8:2::{number:x}"}


def test_a_killed_agent_starts_again_and_removes_only_what_is_gone(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    offload(controller, HOA, OTHER_HOA)
    agent.end(signal.SIGKILL)
    assert installed(lab) == {HOA: COA, OTHER_HOA: COA}
    controller.unbind(OTHER_HOA)
    agent.start()
    until(controller.up_to_date, "the agent is back")
    until(
        lambda: (installed(lab), accepted(lab)) == ({HOA: COA}, {SourcePair(COA, HOA)}),
        "what is not wanted any more is gone",
    )


def test_sigterm_ends_it_at_once_and_leaves_the_routes(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    offload(controller, HOA)
    assert agent.end() == 0
    assert installed(lab) == {HOA: COA}
    assert "event=stopped" in agent.log()


def test_a_restarted_controller_deletes_nothing_before_the_snapshot(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    offload(controller, HOA, OTHER_HOA)
    controller.restart()
    until(controller.up_to_date, "the agent has announced itself again")
    assert installed(lab) == {HOA: COA, OTHER_HOA: COA}
    controller.bind(HOA, COA_2, HA)
    until(controller.up_to_date, "the first binding of the snapshot")
    assert installed(lab) == {HOA: COA_2, OTHER_HOA: COA}
    controller.know(HA)
    until(controller.up_to_date, "the snapshot is complete")
    until(
        lambda: (installed(lab), accepted(lab)) == ({HOA: COA_2}, {SourcePair(COA_2, HOA)}),
        "what is not wanted any more is gone",
    )


def test_it_outlives_an_unreachable_controller_and_logs_it_once(
    lab: RouterLab, ovs: Ovs, controller: FakeController, agent: AgentProcess
) -> None:
    offload(controller, HOA)
    until(lambda: agent.log().count("state=ok") == 1, "it says that the controller is there")
    controller.die()
    until(lambda: "lost, routes kept" in agent.log(), "the loss is noticed")
    with ovs.inside():
        anew = FakeController(port=controller.port)
    with anew:
        anew.bind(HOA, COA_2, HA)
        until(anew.up_to_date, "the agent is back")
        assert installed(lab) == {HOA: COA_2}
        until(lambda: agent.log().count("state=ok") == 2, "it says that the controller is back")
        assert agent.log().count("lost, routes kept") == 1


@pytest.mark.parametrize("status", [500, 503, 404, 409])
def test_refusals_are_retried(lab: RouterLab, controller: FakeController, agent: AgentProcess, status: int) -> None:
    controller.know(HA)
    until(controller.up_to_date, "the agent is there")
    controller.failures.extend([status] * 3)
    controller.bind(HOA, COA, HA)
    until(lambda: controller.up_to_date() and not controller.failures, "the binding is applied")
    assert installed(lab) == {HOA: COA}


def test_one_bad_binding_is_reported_and_the_others_go_on(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA, HA_2)
    controller.bind(OTHER_HOA, COA, HA)
    controller.bind("2001:db8:88::100", COA, HA_2)
    controller.bind("2001:db8:99::300", "nonsense", HA)
    controller.bind(MNP, COA_2, HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the list is applied")
    assert installed(lab) == {HOA: COA, OTHER_HOA: COA, MNP: COA_2}
    failed = {entry["home_address"]: entry["reason"] for entry in controller.last()["failed"]}
    assert failed.keys() == {"2001:db8:88::100", "2001:db8:99::300"}
    assert "hoaflow-router setup for it" in failed["2001:db8:88::100"]
    assert "nonsense" in failed["2001:db8:99::300"]


def test_a_prefix_that_nft_refuses_fails_alone_until_it_fits(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    """Interval sets of nftables take no prefix inside one that is there already."""
    wide, narrow = "2001:db8:99::/48", "2001:db8:99:10::/60"
    offload(controller, wide)
    controller.bind(narrow, COA, HA)
    controller.bind(HOA, COA, HA)
    until(controller.up_to_date, "the list is applied")
    assert [entry["home_address"] for entry in controller.last()["failed"]] == [narrow]
    assert installed(lab) == {wide: COA, HOA: COA}
    controller.unbind(wide)
    until(lambda: controller.up_to_date() and not controller.last()["failed"], "the other one fits now")
    until(lambda: installed(lab) == {narrow: COA, HOA: COA}, "what is not wanted any more is gone")


def test_endpoints_removed_and_added_while_it_runs_are_noticed(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    controller.know(HA, HA_2)
    controller.bind(HOA, COA, HA)
    controller.bind("2001:db8:88::100", COA, HA_2)
    until(lambda: controller.last().get("failed"), "there is no endpoint for the second home agent yet")
    lab.router("teardown", "--bridge", lab.bridge)
    until(lambda: controller.last()["endpoints"] == [], "the agent says that no endpoint is left")
    assert len(controller.last()["failed"]) == 2
    lab.setup()
    lab.setup(home_agent=HA_2)
    controller.restart()  # it announces itself again, and looks at the database then
    controller.bind(HOA, COA, HA)
    controller.bind("2001:db8:88::100", COA, HA_2)
    until(lambda: len(controller.last()["endpoints"]) == 2 and controller.up_to_date(), "both are announced")
    assert controller.last()["failed"] == []
    assert installed(lab) == {HOA: COA}
    with Seg6Routes(lab.endpoint(HA_2).namespace) as routes:
        assert routes.installed() == {"2001:db8:88::100": COA}


def test_a_namespace_made_anew_gets_its_bindings_back(
    lab: RouterLab, controller: FakeController, agent: AgentProcess
) -> None:
    offload(controller, HOA)
    lab.router("teardown", "--bridge", lab.bridge)
    lab.setup()
    until(lambda: installed(lab) == {HOA: COA} and accepted(lab) == {SourcePair(COA, HOA)}, "it is applied again")


def test_run_without_the_bridge_ends_with_the_reason(lab: RouterLab) -> None:
    lab.setup()
    with pytest.raises(RuntimeError, match="nosuch") as failure:
        lab.router("run", "--bridge", "nosuch", "--controller", "http://127.0.0.1:1")
    assert "Traceback" not in str(failure.value)
    assert os.path.exists(f"/run/netns/{lab.endpoint().namespace}")


# `hoaflow-router` that locks another file than the host's, and gives up sooner.
AGENT_WITH_ITS_LOCK = """
import pathlib, sys
from hoaflow.router import agent, cli, lock
lock.LOCK = pathlib.Path(sys.argv[1])
agent.COMPARE = agent.UNCOMPARED = 0.2
sys.exit(cli.main(sys.argv[2:]))
"""


def agent_with_its_lock(lab: RouterLab, controller: FakeController, lock: Path) -> AgentProcess:
    """Start an agent, beside an endpoint that is set up."""
    lab.setup()
    agent = AgentProcess(lab, [f"http://127.0.0.1:{controller.port}"], lock.with_name("agent.log"))
    script = agent.command.index("-m")
    agent.command[script : script + 2] = ["-c", AGENT_WITH_ITS_LOCK, str(lock)]
    agent.start()
    return agent


def test_an_agent_that_waits_for_the_hosts_lock_says_so_and_can_be_stopped(
    lab: RouterLab, controller: FakeController, tmp_path: Path
) -> None:
    lock = tmp_path / "lock"
    agent = agent_with_its_lock(lab, controller, lock)
    try:
        offload(controller, HOA)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            until(lambda: f"another hoaflow-router has held {lock}" in agent.log(), "the agent says what it waits for")
            assert agent.end() == 0
    finally:
        agent.end(signal.SIGKILL)


def test_an_agent_that_cannot_compare_lets_its_leases_end(
    lab: RouterLab, controller: FakeController, tmp_path: Path
) -> None:
    """Without a comparison nobody knows where packets go: an agent that went on calling would say that all is well."""
    lock = tmp_path / "lock"
    agent = agent_with_its_lock(lab, controller, lock)
    try:
        offload(controller, HOA)
        lock.unlink()
        lock.mkdir()  # what cannot be opened for writing, even by root
        until(lambda: 'state="given up, no controller is called' in agent.log(), "the agent gives up")
        said, ended = len(controller.acknowledged), time.monotonic() + controller.lease
        until(lambda: time.monotonic() > ended, "the lease ends")
        assert len(controller.acknowledged) <= said + 1  # what was under way
        lock.rmdir()
        controller.bind(OTHER_HOA, COA, HA)
        until(controller.up_to_date, "the agent calls again")
    finally:
        agent.end()
