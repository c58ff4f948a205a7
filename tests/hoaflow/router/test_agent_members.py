# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router run` with several controllers: the kernel follows the master's list, and each is acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_controller import FakeController
from tests.support.logs import errors_in
from tests.support.ovs import Ovs
from tests.support.router_agent import AgentProcess, installed
from tests.support.router_lab import COA, COA_2, HA, HOA, OTHER_HOA, RouterLab, until


@pytest.fixture
def controllers(ovs: Ovs) -> Iterator[tuple[FakeController, FakeController]]:
    """Provide a router's master and its slave, which tell of each other."""
    with ovs.inside():
        master, slave = FakeController(), FakeController()
    urls = {name: f"http://127.0.0.1:{each.port}" for name, each in (("a", master), ("b", slave))}
    master.members, slave.members = urls, {"b": urls["b"], "a": urls["a"]}
    master.become(True, 1)
    slave.become(False, 1)
    with master, slave:
        yield master, slave


@pytest.fixture
def agent(lab: RouterLab, controllers: tuple[FakeController, FakeController], tmp_path: Path) -> Iterator[AgentProcess]:
    """Provide an agent that was told of the master alone."""
    lab.setup()
    running = AgentProcess(lab, [f"http://127.0.0.1:{controllers[0].port}"], tmp_path / "agent.log")
    running.start()
    try:
        yield running
        assert running.end() == 0
    finally:
        if running.process is not None and running.process.poll() is None:
            running.process.kill()
            running.process.wait()
    assert errors_in(running.log()) == []


def test_the_master_is_followed_then_who_takes_over(
    lab: RouterLab, controllers: tuple[FakeController, FakeController], agent: AgentProcess
) -> None:
    master, slave = controllers
    for controller in controllers:
        controller.know(HA)
        controller.bind(HOA, COA, HA)
        until(controller.up_to_date, "each is acknowledged its list")
    assert installed(lab) == {HOA: COA}

    acknowledged = slave.last()["revision"]
    slave.bind(HOA, COA_2, HA)
    master.bind(OTHER_HOA, COA, HA)
    until(master.up_to_date, "the master's news is applied")
    assert installed(lab) == {HOA: COA, OTHER_HOA: COA}
    assert slave.last()["revision"] == acknowledged

    slave.become(True, 2)
    until(slave.up_to_date, "the new master's list is followed, while the former one still answers")
    assert installed(lab)[HOA] == COA_2
    master.die()
    slave.bind(HOA, COA, HA)
    until(slave.up_to_date, "the former master's death delays nothing")
    assert installed(lab)[HOA] == COA
    until(lambda: installed(lab) == {HOA: COA}, "what the former master alone had goes")
