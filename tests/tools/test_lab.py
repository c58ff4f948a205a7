# SPDX-License-Identifier: Apache-2.0
"""`make lab`: the whole system comes up, can be played with, and is gone at the end of input or by a signal."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.processes import marked
from tests.support.waiting import wait_for
from topologies.waiting import patient

COMMAND = [sys.executable, "-m", "tools.demo.lab", "--port", "8099"]


class Player:
    """Somebody at the lab's prompt."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "single", "--output", str(directory / "lab")],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
            )

    @property
    def said(self) -> str:
        """All that was said so far."""
        return self._log.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the lab says so."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, self.said
            return re.search(pattern, self.said)

        return wait_for(f"{pattern} in {self.said[-300:]}", found, 90)

    def ask(self, line: str) -> str:
        """Enter a line; returns what is said until the next prompt."""
        before = len(self.said)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return wait_for(f"an answer to {line}", lambda: self._answer(before), 60)

    def _answer(self, start: int) -> str | None:
        said = self.said[start:]
        return said if said.endswith("mininet> ") else None


@pytest.fixture
def player(tmp_path: Path) -> Iterator[Player]:
    """Provide the small network, with somebody at its prompt."""
    player = Player(tmp_path)
    try:
        player.wait_for("mininet> ")
        yield player
    finally:
        player.process.kill()
        player.process.wait()


def test_a_mobile_node_roams_by_hand_and_the_host_sees_the_dashboard(player: Player) -> None:
    before = os.listdir("/sys/class/net")
    url = player.wait_for(r"dashboard: (http://127\.0\.0\.1:\d+/)")[1]
    with urllib.request.urlopen(url, timeout=patient(120)) as answer:
        assert b"<title>hoaflow</title>" in answer.read()
    helped = player.ask("help")
    assert "which path its packets take, and why" in helped
    assert "pingall" in helped
    assert "roam: expected home, 1, got '7'" in player.ask("roam 7")
    player.ask("roam 1")
    wait_for("the packets go direct", lambda: "straight to 2001:db8:2::100" in player.ask("look"))
    assert "1 packets transmitted, 1 received" in player.ask("mn ping -c1 cn")
    player.ask("kill bridge")
    assert re.search("bridge +does not run", player.ask("programs"))
    player.ask("start bridge")
    assert re.search("bridge +runs", player.ask("programs"))
    assert "event=" not in player.said, "programs' log lines among what the lab says"
    assert player.process.stdin is not None
    player.process.stdin.close()  # Ctrl-D
    assert player.process.wait(patient(60)) == 0, player.said
    assert os.listdir("/sys/class/net") == before


@pytest.mark.parametrize(
    ("number", "awaited", "network"),
    [
        (signal.SIGTERM, "ovs-vswitchd", "single"),
        (signal.SIGHUP, "--mobile-networks", "nemo"),
        (signal.SIGINT, "hoaflow.router", "mip4"),
        (signal.SIGTERM, "mobile_access_gateway", "proxy"),
    ],
)
def test_a_signal_while_it_comes_up_leaves_nothing(
    tmp_path: Path, number: signal.Signals, awaited: str, network: str
) -> None:
    before = os.listdir("/sys/class/net")
    command = [*COMMAND, network, "--output", str(tmp_path / "lab")]
    with marked(command, f"lab-{number}-{os.getpid()}", tmp_path / "log") as lab:
        lab.wait_until_running(awaited, seconds=90)
        lab.send(number, group=False)
        lab.assert_nothing_is_left()
        assert lab.process.returncode == 128 + number, lab.log.read_text()
    assert os.listdir("/sys/class/net") == before
