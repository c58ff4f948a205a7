# SPDX-License-Identifier: Apache-2.0
"""A gateway that cannot start says why in one line, and leaves nothing behind."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.proxy_mobility import LMA, MAG_1, MOBILE_NODES
from topologies.waiting import patient

NAMESPACE = "hoaflow-mag-start"


def inside(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in the namespace."""
    entered = ["ip", "netns", "exec", NAMESPACE, *command]
    return subprocess.run(entered, check=check, capture_output=True, text=True, timeout=patient(60))


@pytest.fixture
def namespace() -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True, timeout=patient(60))
    try:
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True, timeout=patient(60))


@pytest.mark.usefixtures("namespace")
def test_an_access_link_that_does_not_exist_is_named(tmp_path: Path) -> None:
    nodes = tmp_path / "mobile-nodes.toml"
    nodes.write_text(MOBILE_NODES)
    before = inside("ip", "address").stdout, inside("ip", "-6", "rule").stdout
    command = [sys.executable, "-m", "hoaflow.mobile_access_gateway", "--mobile-access-gateway", MAG_1]
    command += ["--local-mobility-anchor", LMA, "--access-link", "nowhere0"]
    done = inside(*command, "--insecure", "--mobile-nodes", str(nodes), check=False)
    said = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
    assert (done.returncode, said) == (1, ["hoaflow-mag: cannot start: interface nowhere0 is missing"])
    assert (inside("ip", "address").stdout, inside("ip", "-6", "rule").stdout) == before
    assert inside("nft", "list", "ruleset").stdout == ""
