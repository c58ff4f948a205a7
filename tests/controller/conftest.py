# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that start the controller beside a real Open vSwitch."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench import Bench, registered
from tests.support.controller import Controller
from tests.support.ovs import Ovs


@pytest.fixture
def controller_settings() -> str:
    """Return the settings of `controller`, for a module to override."""
    return ""


@pytest.fixture
def controller(ovs: Ovs, tmp_path: Path, controller_settings: str) -> Iterator[Controller]:
    """Provide a running controller; its log must be free of errors in the end."""
    with Controller(ovs, tmp_path, controller_settings) as running:
        yield running
    running.assert_log_clean()


@pytest.fixture
def bench(ovs: Ovs, controller: Controller) -> Bench:
    """Provide a registered mobile node whose traffic goes direct, and a flow of another application."""
    return registered(ovs, controller)
