# SPDX-License-Identifier: Apache-2.0
"""What home agents, anchors and access gateways have in common while they serve."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from hoaflow.logs import Log
from hoaflow.mobility.objects import RestoredSetting
from hoaflow.mobility.service import Service
from hoaflow.tunnel.namespace import in_namespace

NAMESPACE = "hoaflow-service"
SETTING = Path("/proc/sys/net/ipv6/conf/all/forwarding")
MOST_TURNS = 1000  # two are needed


class Busy(Service):
    """A service that always has more to do, while somebody changes the kernel."""

    turns = 0
    """Until the change was mended."""

    def setup(self) -> None:
        self.declare([RestoredSetting("all.forwarding", "1")], lambda: ())

    def work(self, now: float) -> Iterable[float | None]:
        if self.turns == 0:
            SETTING.write_text("0")
        elif SETTING.read_text().strip() == "1" or self.turns == MOST_TURNS:
            self.stop()
            return ()
        self.turns += 1
        return (now,)


@pytest.fixture
def namespace() -> Iterator[str]:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True, capture_output=True, timeout=60)
    yield NAMESPACE
    subprocess.run(["ip", "netns", "del", NAMESPACE], check=True, capture_output=True, timeout=60)


def test_the_kernel_is_compared_however_much_there_is_to_do(namespace: str) -> None:
    def serve() -> int:
        service = Busy(Log("test"))
        try:
            service.setup()
            service.run()
        finally:
            service.close()
        return service.turns

    assert in_namespace(namespace, serve) < MOST_TURNS
