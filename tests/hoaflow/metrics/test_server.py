# SPDX-License-Identifier: Apache-2.0
"""The server of bridge's and home agent's metrics: what it bears."""

import argparse
import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from hoaflow.metrics import MetricsServer, add_option
from hoaflow.metrics.server import MOST_REQUESTS
from tests.support.scrape import scrape
from tests.support.waiting import wait_for
from topologies.waiting import patient

TIMEOUT = patient(20.0)


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """Provide a server with one metric."""
    registry = CollectorRegistry()
    Counter("hoaflow_test_total", "Of this test.", registry=registry).inc(3)
    running = MetricsServer(("127.0.0.1", 0), registry)
    yield running
    running.close()


def test_clients_that_say_nothing_cost_a_few_threads_and_keep_nobody_out_for_ever(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoaflow.metrics.server._Handler.timeout", 0.5)
    url = "http://{}:{}/metrics".format(*server.address)
    assert scrape(url)("hoaflow_test_total") == 3
    with contextlib.ExitStack() as silent:
        for _ in range(MOST_REQUESTS):
            silent.enter_context(socket.create_connection(server.address, TIMEOUT))
        with socket.create_connection(server.address, TIMEOUT) as one_more:
            assert one_more.recv(1) == b""  # turned away
        wait_for("there is room again, though they are still connected", lambda: _served(url))


def _served(url: str) -> bool:
    with contextlib.suppress(OSError):
        return scrape(url)("hoaflow_test_total") == 3
    return False


@pytest.mark.parametrize("wrong", ["9100", ":9100", "host:", "127.0.0.1:65536", "127.0.0.1:x"])
def test_the_option_takes_host_and_port(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_option(parser)
    assert parser.parse_args(["--metrics", "[::1]:9100"]).metrics == ("::1", 9100)
    with pytest.raises(SystemExit):
        parser.parse_args(["--metrics", wrong])
    assert f"expected HOST:PORT, got '{wrong}'" in capsys.readouterr().err


def test_each_probe_says_its_own_reason() -> None:
    server = MetricsServer(("127.0.0.1", 0), CollectorRegistry(), lambda: "no uplink", lambda: "stuck")
    try:
        for path, reason in (("healthz", "stuck"), ("readyz", "no uplink")):
            assert refusal("http://{}:{}/{}".format(*server.address, path)) == f"{reason}\n".encode()
    finally:
        server.close()


def test_a_standby_is_ready_for_who_takes_it_for_that() -> None:
    """For Kubernetes a pod that stands by is as it should be; others ask for the one that serves."""
    serving = "p1"
    server = MetricsServer(("127.0.0.1", 0), CollectorRegistry(), lambda: "no uplink", standing_by=lambda: serving)
    url = "http://{}:{}/readyz".format(*server.address)
    try:
        with urllib.request.urlopen(f"{url}?standby=ok", timeout=TIMEOUT) as answer:
            assert answer.read() == b"standing by: p1 serves\n"
        for query in ("", "?standby=no", "?standby"):
            assert refusal(url + query) == b"standing by: p1 serves\n"
        serving = ""
        assert refusal(f"{url}?standby=ok") == b"no uplink\n"
    finally:
        server.close()


def refusal(url: str) -> bytes:
    """Return what a probe that is answered by 503 says."""
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        urllib.request.urlopen(url, timeout=TIMEOUT)
    with refused.value as answer:
        body: bytes = answer.read()
    return body
