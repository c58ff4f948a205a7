# SPDX-License-Identifier: Apache-2.0
"""A router's lab, with or without a controller and an agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hoaflow.router.endpoint import KERNEL_SIDE, TOUT
from hoaflow.tunnel.seg6 import Seg6Routes
from hoaflow.tunnel.spoofing_filter import SpoofingFilter
from tests.support.fake_controller import FakeController
from tests.support.logs import errors_in
from tests.support.ovs import Ovs
from tests.support.router_agent import AgentProcess
from tests.support.router_lab import COA, HA, HOA, HOA4, MNP4, RouterLab


@pytest.fixture
def lab(ovs: Ovs) -> Iterator[RouterLab]:
    with RouterLab(ovs) as running:
        yield running


@pytest.fixture
def controller(ovs: Ovs) -> Iterator[FakeController]:
    with ovs.inside():
        fake = FakeController()
    with fake:
        yield fake


@pytest.fixture
def agent(lab: RouterLab, controller: FakeController, tmp_path: Path) -> Iterator[AgentProcess]:
    """Provide a running agent, beside an endpoint that is set up."""
    lab.setup()
    running = AgentProcess(lab, [f"http://127.0.0.1:{controller.port}"], tmp_path / "agent.log")
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.end()
    assert errors_in(running.log()) == []


@pytest.fixture
def bound(lab: RouterLab) -> RouterLab:
    """Provide an endpoint with flows to it and three bindings: HOA, HOA4 and MNP4 at COA."""
    lab.setup()
    lab.steer()
    with Seg6Routes(lab.endpoint().namespace) as routes:
        assert routes.encapsulate_all(dict.fromkeys((HOA, HOA4, MNP4), COA), KERNEL_SIDE, TOUT) == {}
    SpoofingFilter(lab.endpoint().namespace, HA).add((COA, home) for home in (HOA, HOA4, MNP4))
    return lab
