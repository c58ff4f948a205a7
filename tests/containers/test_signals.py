# SPDX-License-Identifier: Apache-2.0
"""Signals to a run of these tests leave no engine and nothing that it has made."""

import signal
from pathlib import Path

import pytest

from tests.support.processes import marked

# The smallest of its kind: an engine with nothing in it.
RUN = """
import time
from tests.conftest import end_in_order
from tests.containers.engine import running_engine
end_in_order()
with running_engine(lambda builder: None) as engine:
    engine.docker("network", "create", "left")
    time.sleep(600)
"""
HOMES = "hoaflow-test-engine-*"


@pytest.mark.parametrize("awaited", ["setpriv", "sysfs", "dockerd", "containerd"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_engine_is_left(tmp_path: Path, number: signal.Signals, awaited: str) -> None:
    before = set(Path("/var/tmp").glob(HOMES)), set(Path("/sys/class/net").iterdir())
    with marked(["scripts/isolated-python", "-c", RUN], f"engine-{number}-{awaited}", tmp_path / "log") as run:
        run.wait_until_running(awaited, seconds=60)
        run.send(number, group=number is not signal.SIGTERM)
        run.assert_nothing_is_left()
    assert (set(Path("/var/tmp").glob(HOMES)), set(Path("/sys/class/net").iterdir())) == before
