# SPDX-License-Identifier: Apache-2.0
"""Where the REST API answers without tokens: on this host alone, and to no page of a foreign site."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.controller import Controller
from tests.support.ovs import Ovs
from tests.support.pki import Authority
from tests.support.tokens import write_tokens
from tests.support.waiting import wait_for

RYU_MANAGER = str(Path(sys.executable).with_name("ryu-manager"))
HOME_AGENT = "/v1/home-agents/2001:db8:99::1"
ANNOUNCEMENT = {"home_prefixes": ["2001:db8:99::/64"]}


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """Provide a controller without tokens."""
    with Ovs(tmp_path_factory.mktemp("ovs")) as ovs, Controller(ovs, tmp_path_factory.mktemp("controller")) as running:
        yield running


def refused(directory: Path, settings: str, *options: str) -> str:
    """Return what a controller says that does not start."""
    config = directory / "controller.conf"
    config.write_text(f"[hoaflow]\n{settings}\n")
    command = [RYU_MANAGER, "--config-file", str(config), *options, "controller/app.py"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"])
def test_other_hosts_are_not_served_without_tokens(tmp_path: Path, host: str) -> None:
    said = refused(tmp_path, "", "--wsapi-host", host)
    assert f"wsapi_host {host}: without tokens" in said
    assert "tokens_file" in said


def test_the_default_is_this_host_alone(ovs: Ovs, tmp_path: Path) -> None:
    log = (tmp_path / "log").open("w")
    with subprocess.Popen(
        ovs.command(RYU_MANAGER, "controller/app.py"), cwd=CHECKOUT, stdout=log, stderr=log
    ) as process:
        try:
            wait_for("it has started", lambda: "event=started" in (tmp_path / "log").read_text(), 60.0)
            assert ovs.run("ss", "-Htln", "sport = :8080").split()[3] == "127.0.0.1:8080"
            assert "event=no-tokens" in (tmp_path / "log").read_text()
        finally:
            process.terminate()
            log.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("tokens_file = {directory}/nowhere", "nowhere: No such file"),
        ("tokens_file = {readable}", "chmod 600"),
        ("rest_certificate = {certificate}", "rest_certificate and rest_key go together"),
        ("rest_certificate = {certificate}\nrest_key = {certificate}", "expected a certificate in"),
        ("rest_client_ca = {certificate}", "set rest_certificate"),
    ],
)
def test_files_that_are_of_no_use_keep_it_from_starting(tmp_path: Path, settings: str, said: str) -> None:
    certificate = Authority(tmp_path / "ca").server("controller", "127.0.0.1").certificate
    readable = write_tokens(tmp_path, mode=0o644)
    settings = settings.format(directory=tmp_path, readable=readable, certificate=certificate)
    assert said in refused(tmp_path, settings)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "LOCALHOST"]
)
def test_who_is_on_this_host_may_do_everything(controller: Controller, host: str) -> None:
    assert controller.call("PUT", HOME_AGENT, ANNOUNCEMENT, headers={"Host": host}).status == 200
    assert controller.call("GET", "/v1/bindings", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "192.0.2.1:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""],
)
def test_a_name_that_was_made_to_lead_here_gets_nothing(controller: Controller, host: str) -> None:
    for method, path in (("GET", "/v1/bindings"), ("PUT", HOME_AGENT), ("GET", "/openapi.json")):
        body = ANNOUNCEMENT if method == "PUT" else None
        answer = controller.call(method, path, body, headers={"Host": host})
        assert answer.status == 403
        assert "Host header" in answer.body["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_may_not_call(controller: Controller, headers: dict[str, str]) -> None:
    for method, path in (("PUT", HOME_AGENT), ("DELETE", "/v1/bindings/2001:db8:99::1"), ("GET", "/v1/routers")):
        body = ANNOUNCEMENT if method == "PUT" else None
        assert controller.call(method, path, body, headers=headers).status == 403
    # Coming here from a link is no harm.
    assert controller.call("GET", "/docs", headers=headers).status == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://127.0.0.1:8080"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_our_own_pages_may_call(controller: Controller, headers: dict[str, str]) -> None:
    assert controller.call("PUT", HOME_AGENT, ANNOUNCEMENT, headers=headers).status == 200
