# SPDX-License-Identifier: Apache-2.0
"""SIGTERM, SIGINT and SIGHUP to a run of the tests, at any time, leave nothing. For containers: tests/containers."""

import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.processes import marked
from topologies.waiting import patient

WORKER = "popen//python={}/scripts/isolated-python"
# A test that holds what tests hold: a namespace, an Open vSwitch in it, and a process in a session of its own.
TEST = """
import pathlib, subprocess, time
from tests.support.ovs import Ovs

def test_that_goes_on(tmp_path):
    with Ovs(tmp_path) as ovs:
        ovs.add_bridge("br0", 1)
        try:
            subprocess.Popen(["sleep", "601"], start_new_session=True)
            time.sleep(600)
        finally:
            pathlib.Path(__file__).with_name("ended").touch()
"""
ALONE = ["scripts/isolated-python", "-m", "pytest"]
AT_ONCE = [f"{CHECKOUT}/.venv/bin/python", "-m", "pytest", "--dist=load", "--tx", WORKER.format(CHECKOUT)]
# The tiers as `make test` runs them, with something shorter in place of each.
TIERS = ["make", "--jobs=2", "--keep-going", "--output-sync=target", "test-ordinary", "test-kernel", "test-compose"]
NO_GUEST, NO_SETUP = "GUEST=env", "SETUP_CONTAINERS=true"


@pytest.fixture
def pending_test(tmp_path: Path) -> Path:
    """Provide a directory of tests, with one that never ends."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_pending.py").write_text(TEST)
    return tmp_path


# "setpriv": as soon as there is a process; "sleep": in the middle of a test.
@pytest.mark.parametrize(
    ("run", "number", "awaited"),
    [
        ("alone", signal.SIGTERM, "setpriv"),
        ("alone", signal.SIGTERM, "sleep"),
        ("alone", signal.SIGHUP, "sleep"),
        ("alone", signal.SIGKILL, "sleep"),
        ("at once", signal.SIGTERM, "sleep"),
        ("at once", signal.SIGINT, "setpriv"),
    ],
)
def test_nothing_is_left_of_a_run(pending_test: Path, run: str, number: signal.Signals, awaited: str) -> None:
    arguments = ["-p", "no:cacheprovider", f"--rootdir={pending_test}", str(pending_test)]
    command = [*(ALONE if run == "alone" else AT_ONCE), *arguments]
    before = set(Path("/run/netns").iterdir()), set(Path("/sys/class/net").iterdir())
    with marked(command, f"run-{run}-{number}-{awaited}", pending_test / "log") as started:
        started.wait_until_running(awaited, seconds=60)
        # SIGTERM as `kill` and make send it, the others as a terminal does.
        started.send(number, group=number in (signal.SIGINT, signal.SIGHUP))
        started.assert_nothing_is_left()
    assert started.process.returncode not in (0, 1)
    in_order = awaited == "sleep" and number is not signal.SIGKILL
    assert (pending_test / "ended").exists() == in_order, started.log.read_text()
    assert (set(Path("/run/netns").iterdir()), set(Path("/sys/class/net").iterdir())) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_tiers_side_by_side(pending_test: Path, number: signal.Signals) -> None:
    tests = shlex.join([*ALONE, "-p", "no:cacheprovider", f"--rootdir={pending_test}", str(pending_test)])
    command = [*TIERS, f"ALL_TESTS={tests}", NO_GUEST, NO_SETUP, "KERNEL_TIER=sleep 602"]
    with marked(command, f"tiers-{number}", pending_test / "log") as started:
        started.wait_until_running("sleep 601", "sleep 602", seconds=60)
        started.send(number, group=number is signal.SIGINT)
        started.assert_nothing_is_left()
    assert started.process.returncode
    assert (pending_test / "ended").exists(), started.log.read_text()


@pytest.mark.parametrize("failing", [None, "ALL_TESTS", "KERNEL_TIER", "CONTAINER_TIER"])
def test_each_tier_runs_and_has_to_pass(tmp_path: Path, failing: str | None) -> None:
    tiers = {tier: tmp_path / tier for tier in ("ALL_TESTS", "KERNEL_TIER", "CONTAINER_TIER")}
    commands = [f"{tier}=touch {ran}" + (" /nowhere/to/be/found" * (tier == failing)) for tier, ran in tiers.items()]
    command = [*TIERS, NO_GUEST, NO_SETUP, *commands]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=patient(60))
    assert (done.returncode == 0) == (failing is None), done.stdout + done.stderr
    assert all(ran.exists() for ran in tiers.values()), done.stdout + done.stderr
