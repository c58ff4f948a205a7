# SPDX-License-Identifier: Apache-2.0
"""How home agent, anchor and access gateway end."""

import os
import signal
from collections.abc import Iterator

import pytest

from hoaflow.logs import Log
from hoaflow.mobility.program import serve


class Server:
    """Notes what is done with it. Somebody ends it while it is set up."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number
        self.done: list[str] = []

    def setup(self) -> None:
        os.kill(os.getpid(), self._number)
        self.done.append("set up")

    def run(self) -> None:
        assert "stopped" in self.done
        self.done.append("run")

    def stop(self) -> None:
        self.done.append("stopped")

    def close(self) -> None:
        self.done.append("closed")


def _unheard(number: int, _frame: object) -> None:
    raise AssertionError(f"signal {number} would have ended the process, and left what was set up")


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """Provide a signal that fails the test unless the program handles it."""
    before = {each: signal.signal(each, _unheard) for each in (signal.SIGTERM, signal.SIGINT)}
    yield request.param
    for each, handler in before.items():
        signal.signal(each, handler)


def test_a_signal_during_the_set_up_ends_it_in_order(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    server = Server(number)
    assert serve("test", Log("test"), server, insecure=None) == 0
    assert server.done == ["stopped", "set up", "run", "closed"]
