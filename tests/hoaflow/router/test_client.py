# SPDX-License-Identifier: Apache-2.0
"""What an agent tells a controller of its router."""

import pytest

from hoaflow.client.directory import MemberAddress
from hoaflow.router.announcement import Announcement
from hoaflow.router.client import Controller
from tests.support.fake_controller import FakeController


@pytest.mark.parametrize("install", ["everything", "on-demand", None])
def test_which_flows_the_router_is_to_have_is_said_if_it_was_chosen(install: str | None) -> None:
    with FakeController() as fake, Controller(MemberAddress(f"http://127.0.0.1:{fake.port}"), "1" * 16) as controller:
        controller.acknowledge(0, Announcement(install=install))
        assert fake.last().get("install") == install
        assert ("install" in fake.last()) == (install is not None)
