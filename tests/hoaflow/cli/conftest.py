# SPDX-License-Identifier: Apache-2.0
"""A controller with a switch, for all tests of the command line or for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench import Bench, binding
from tests.support.controller import Controller
from tests.support.operator import Operator
from tests.support.operator_bench import connected
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Provide a switch and its controller for all tests that leave them as they are. Leases hold all the while."""
    directory = tmp_path_factory.mktemp("cli")
    with Ovs(directory) as ovs, Controller(ovs, directory, "agent_lease = 300") as controller:
        yield connected(ovs, controller)
    ovs.assert_log_clean()
    controller.assert_log_clean()


@pytest.fixture
def bench(running: Bench) -> Bench:
    """Provide a registered mobile node whose traffic goes direct, and nothing else."""
    running.announce(lease=60)
    running.snapshot(binding())
    running.agent(0x1A)
    wait_for("the binding is active", lambda: running.state() == "active")
    return running


@pytest.fixture
def own_bench(ovs: Ovs, tmp_path: Path) -> Iterator[Bench]:
    """Provide the same, to be broken: a controller of one's own."""
    with Controller(ovs, tmp_path, "agent_lease = 300") as controller:
        bench = connected(ovs, controller)
        bench.announce(lease=60)
        bench.snapshot(binding())
        bench.agent(0x1A)
        wait_for("the binding is active", lambda: bench.state() == "active")
        yield bench
    controller.assert_log_clean()


@pytest.fixture
def hoaflow(running: Bench) -> Operator:
    """Provide the command, beside the controller of all tests."""
    return Operator(running.ovs)


@pytest.fixture
def own_hoaflow(ovs: Ovs) -> Operator:
    """Provide the command, beside a controller of one's own or none."""
    return Operator(ovs)
