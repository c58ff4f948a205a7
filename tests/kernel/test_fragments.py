# SPDX-License-Identifier: Apache-2.0
"""What becomes of packets that are too large for a link once they are in a tunnel, with both backends."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.kernel.lab import BRIDGE, CN, COA, HA, HOA, TRANSFER, FlowLab
from tests.kernel.transfer import PORT
from tests.support.capture import capture


@pytest.fixture(params=["flow", "route"])
def offloaded(lab: FlowLab, request: pytest.FixtureRequest) -> Iterator[FlowLab]:
    """HOA is offloaded to COA, with one or the other backend."""
    lab.setup("--backend", request.param, *(["--home-agent", HA] if request.param == "route" else []))
    lab.offload()
    yield lab
    lab.router("teardown", "--bridge", BRIDGE)
    lab.home()


def test_a_fragmented_tunnel_packet_arrives_by_the_home_agent(offloaded: FlowLab) -> None:
    lab = offloaded
    with lab.start("cn", *TRANSFER, "udp-receive", CN) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "ready\n"
        with capture(lab.enter("ha"), "e0", f"ip6 proto 44 and src {COA}") as at_home_agent:
            command = [COA, HA, HOA, CN, str(PORT), "1400"]
            lab.run("mn", sys.executable, "-m", "tests.kernel.fragments", *command)
            assert receiver.stdout.read() == "1400\n"
            assert "frag (" in at_home_agent()
