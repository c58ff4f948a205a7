# SPDX-License-Identifier: Apache-2.0
"""The command line as an operator uses it: real `hoaflow` processes beside a real controller and Open vSwitch."""

import json
import re
import ssl
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.bench import HOME_ADDRESS, HOME_AGENT, SECOND, Bench, binding
from tests.support.controller import Controller
from tests.support.operator import Operator
from tests.support.operator_bench import OTHER, UNBROKEN, post
from tests.support.ovs import Ovs
from tests.support.pki import Authority
from tests.support.waiting import wait_for

LONG = "2001:db8:99:0:abcd:12ff:fe34:5678"
ESCAPE = "\x1b"
TOKENS = {"read": "r" * 32, "admin": "a" * 32}


def test_the_lists_say_what_the_controller_holds(bench: Bench, hoaflow: Operator) -> None:
    listed = hoaflow("bindings").out.splitlines()
    assert listed[0].split("  ")[0] == "HOME ADDRESS"
    assert re.fullmatch(rf"{HOME_ADDRESS} +2001:db8:2::2 +active +\d+ s +0", listed[1])
    assert len(listed) == 2
    assert [held["home_address"] for held in hoaflow.json("bindings", "list")["bindings"]] == [HOME_ADDRESS]
    assert re.search(rf"{HOME_AGENT} +up +\d+ s +held +1 +100 % +- +2001:db8:99::/64", hoaflow("home-agents").out)
    assert hoaflow.json("home-agents")["home_agents"][0]["bindings"] == 1
    assert re.search(r"000000000000001a +connected +route +alive +all +2 +0", hoaflow("routers").out)
    shown, held = hoaflow.json("routers")["routers"], bench.controller.get("/v1/routers")["routers"]
    for router in (*shown, *held):
        assert [gate.pop("expires_in") > 0 for gate in router["gates"]] == [True, True]
    assert shown == held


def test_filters_and_empty_lists(bench: Bench, hoaflow: Operator) -> None:
    assert HOME_ADDRESS in hoaflow("bindings", "list", "--home-agent", "2001:DB8:99:0::1").out
    said = hoaflow("bindings", "list", "--state", "pending")
    assert said.out == ""
    assert said.err == "no bindings\n"
    assert hoaflow.json("bindings", "list", "--care-of-address", SECOND) == {"bindings": []}


@pytest.mark.parametrize(
    "spelled", [HOME_ADDRESS, "2001:0DB8:0099:0000::0100", "2001:db8:99:0:0:0:0.0.1.0", "[2001:db8:99::100]"]
)
def test_a_home_address_may_be_spelled_in_any_valid_way(bench: Bench, hoaflow: Operator, spelled: str) -> None:
    said = hoaflow("bindings", "show", spelled).out
    assert said.startswith(f"{HOME_ADDRESS} is active\n")
    assert "sequence number  1\n" in said


def test_a_mobile_network_prefix_is_shown_and_removed(bench: Bench, hoaflow: Operator) -> None:
    prefix = "2001:db8:99:0:8000::/65"
    post(bench, {**binding(home_address=prefix), "withheld": "IPsec: protected"})
    assert hoaflow("bindings", "show", prefix).out.startswith(f"{prefix} is withheld: IPsec: protected\n")
    assert "leaves it to the home agent (IPsec: protected)" in " ".join(hoaflow("explain", prefix).out.split())
    post(bench, binding(home_address=prefix))
    assert hoaflow.json("bindings", "show", "2001:DB8:99:0:8000:0::/65")["home_address"] == prefix
    assert hoaflow("bindings", "delete", prefix, HOME_ADDRESS).out == f"{prefix} removed\n{HOME_ADDRESS} removed\n"
    assert "did you mean 2001:db8:99::/64?" in hoaflow("bindings", "show", f"{HOME_ADDRESS}/64", status=2).err
    assert hoaflow.json("bindings") == {"bindings": []}


@pytest.mark.parametrize("spelled", ["000000000000001a", "1a", "0x1A", "26", "00:00:00:00:00:00:00:1a", "dpid:1a"])
def test_a_router_may_be_written_in_any_way(bench: Bench, hoaflow: Operator, spelled: str) -> None:
    assert hoaflow.json("routers", "show", spelled)["dpid"] == "000000000000001a"


def test_a_number_that_means_two_routers_is_asked_back(own_bench: Bench, own_hoaflow: Operator) -> None:
    for dpid in (0x10, 10):
        own_bench.agent(dpid)
    said = own_hoaflow("routers", "show", "10", status=2).err
    assert "0000000000000010 or 000000000000000a" in said
    assert own_hoaflow.json("routers", "show", "0x10")["dpid"] == "0000000000000010"
    assert "is known" in own_hoaflow("routers", "show", "99", status=1).err


def test_flows_are_shown_with_what_they_serve(bench: Bench, hoaflow: Operator) -> None:
    said = hoaflow("flows", "1a").out
    held = bench.controller.get("/v1/routers/1a/flows")["flows"]
    assert said.startswith(f"router 000000000000001a: {len(held)} flows\n")
    assert "table=downlink,priority=100,ipv6,ipv6_dst=2001:db8:99::100" in said
    post(bench, binding(home_address=OTHER, care_of_address=SECOND))
    wait_for("both are active", lambda: bench.state(OTHER) == "active")
    (router,) = hoaflow.json("flows", "--home-address", OTHER.upper())["routers"]
    assert [flow["kind"] for flow in router["flows"]] == ["downlink", "uplink"]
    (router,) = hoaflow.json("flows", "--kind", "gate")["routers"]
    assert len(router["flows"]) == 2


def test_flows_of_a_router_that_is_away_are_asked_for_in_vain(own_bench: Bench, own_hoaflow: Operator) -> None:
    own_bench.agent(7)
    assert "not connected" in own_hoaflow("flows", "7", status=5).err


def test_every_page_of_a_list_is_followed(bench: Bench, hoaflow: Operator) -> None:
    post(bench, *(binding(home_address=f"2001:db8:99::1:{i:x}") for i in range(2100)))
    assert len(hoaflow("bindings").out.splitlines()) == 2102
    assert len(hoaflow.json("bindings")["bindings"]) == 2101
    assert hoaflow.shell("hoaflow bindings | head -n 2; echo ${PIPESTATUS[0]}").out.splitlines()[2] == "141"
    said = hoaflow.shell("set -o pipefail; hoaflow bindings --json | head -n 1")
    assert said == (141, "{\n", "")


def test_output_that_nowhere_goes_is_told(bench: Bench, hoaflow: Operator) -> None:
    said = hoaflow.shell("hoaflow bindings > /dev/full")
    assert said == (1, "", "hoaflow: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ("bindings show 2001:db8:99::999", 1, "no binding is held for 2001:db8:99::999"),
        ("bindings delete 2001:db8:99::999", 1, "no binding is held"),
        ("bindings show here", 2, "expected an IPv6 or IPv4 address, got 'here'"),
        ("bindings show fe80::1%lo", 2, "without a zone"),
        ("bindings show 10.0.0.0/40", 2, "expected a prefix length"),
        ("bindings show", 2, "Missing argument"),
        ("bindings list --state well", 2, "'well' is not one of"),
        ("routers show zz", 2, "expected a router's datapath id"),
        ("routers show 11112222333344445a", 2, "at most 64 bits"),
        ("nonsense", 2, "No such command 'nonsense'"),
        ("bindings --controller 127.0.0.1:8080", 2, "expected http://HOST:PORT"),
        ("bindings --controller http://127.0.0.1:1", 3, "http://127.0.0.1:1/v1/bindings: Failed to establish"),
        ("bindings --ca /nowhere", 2, "--ca /nowhere: "),
        ("bindings --controller http://no.such.host.invalid:1", 3, "http://no.such.host.invalid:1"),
        ("bindings --controller https://127.0.0.1:8080", 3, "TLS failed"),
    ],
)
def test_each_failure_has_its_status_and_says_why(
    bench: Bench, hoaflow: Operator, arguments: str, status: int, reason: str
) -> None:
    said = hoaflow(*arguments.split(), status=status)
    assert said.out == ""
    assert reason in said.err
    assert len(said.err.splitlines()) == (4 if "Usage:" in said.err else 1), "one line is enough"


def test_a_controller_without_a_cluster_says_so(bench: Bench, hoaflow: Operator) -> None:
    assert "is a controller by itself" in " ".join(hoaflow("cluster").out.split())
    assert hoaflow.json("cluster")["cluster"] is None


def test_what_is_no_controller_is_told_from_one(own_hoaflow: Operator, ovs: Ovs) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = b'{"bindings": [{}], "next": null}' if "held" in self.path else b"<html>welcome</html>"
            self.send_response(404 if "routers" in self.path else 302 if "home-agents" in self.path else 200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ovs.inside(), HTTPServer(("127.0.0.1", 8080), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert "is that a hoaflow controller?" in own_hoaflow("bindings", status=3).err
        assert "expected a hoaflow controller" in own_hoaflow("routers", status=3).err
        assert "expected a hoaflow controller" in own_hoaflow("home-agents", status=3).err
        assert "an answer lacks 'routers'" in own_hoaflow("bindings", "list", "--state", "held", status=3).err
        server.shutdown()


def test_options_may_stand_anywhere_and_the_environment_says_the_rest(bench: Bench, hoaflow: Operator) -> None:
    held = hoaflow("--json", "bindings").out
    assert json.loads(held)["bindings"]
    elsewhere = {"HOAFLOW_CONTROLLER": "http://127.0.0.1:1"}
    assert "127.0.0.1:1/" in hoaflow("bindings", environment=elsewhere, status=3).err
    right = ["--controller", "http://127.0.0.1:8080/"]
    for arguments in ([*right, "bindings"], ["bindings", *right], ["bindings", "list", *right]):
        assert HOME_ADDRESS in hoaflow(*arguments, environment=elsewhere).out
    assert "127.0.0.1:1/" in hoaflow(*right, "bindings", "--controller", "http://127.0.0.1:1", status=3).err


def test_the_first_controller_that_answers_is_asked(bench: Bench, hoaflow: Operator) -> None:
    dead, right = "http://127.0.0.1:1", "http://127.0.0.1:8080"
    assert HOME_ADDRESS in hoaflow("bindings", environment={"HOAFLOW_CONTROLLER": f"{dead} {right}"}).out
    assert HOME_ADDRESS in hoaflow("--controller", dead, "--controller", right, "bindings").out
    none = hoaflow("--controller", dead, "--controller", "http://127.0.0.1:2", "bindings", status=3).err
    assert "127.0.0.1:1/" in none
    assert "127.0.0.1:2/" in none


def test_colours_and_folded_cells_are_for_terminals_only(bench: Bench, hoaflow: Operator) -> None:
    far = "2001:db8:2:aaaa:bbbb:cccc:dddd:eeee"
    post(bench, binding(home_address=LONG, care_of_address=far))
    for command in (["bindings"], ["flows"]):
        assert ESCAPE not in hoaflow(*command, environment={"TERM": "xterm-256color"}).out
        shown = hoaflow.on_a_terminal(*command)
        assert ESCAPE in shown
        without = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert all(len(line) <= 80 or line.startswith(UNBROKEN) for line in without.splitlines()), without
        assert "\x1b[32m" not in hoaflow.on_a_terminal(*command, environment={"NO_COLOR": "1"})
    assert f"{LONG}  {far}  active" in hoaflow("bindings").out


def test_what_other_hosts_say_gives_the_terminal_no_commands(bench: Bench, hoaflow: Operator) -> None:
    bench.agent(0x1A, failed=[{"home_address": HOME_ADDRESS, "reason": f"no {ESCAPE}]0;owned\x07 room\n"}])
    said = hoaflow("bindings", "show", HOME_ADDRESS).out
    assert ESCAPE not in said
    assert r"no \x1b]0;owned\x07" in said
    assert ESCAPE not in hoaflow("bindings", "show", HOME_ADDRESS, "--json").out


@pytest.mark.parametrize("command", ["check-config --no-connect --config-file {config}", "support-bundle -o {bundle}"])
def test_nothing_of_the_callers_directory_is_run(bench: Bench, hoaflow: Operator, tmp_path: Path, command: str) -> None:
    """An operator, root perhaps, may stand in a directory that is somebody else's."""
    ran = tmp_path / "ran"
    for module in ("controller", "hoaflow", "router", "json", "typer"):
        (tmp_path / f"{module}.py").write_text(f"open({str(ran)!r}, 'a').write('{module}\\n')\n")
    (tmp_path / "c.conf").write_text("[hoaflow]\n")
    arguments = command.format(config=tmp_path / "c.conf", bundle=tmp_path / "bundle.tar.gz")
    environment = {"OVS_RUNDIR": str(bench.ovs.directory)}
    hoaflow.shell(f"cd {tmp_path} && hoaflow {arguments}", environment)
    assert not ran.exists(), ran.read_text()


@pytest.fixture
def guarded(ovs: Ovs, tmp_path: Path) -> Iterator[Controller]:
    """Provide a controller that lets in who has a token, over TLS, with the files of `files`."""
    authority = Authority(tmp_path / "pki")
    server, client = authority.server("rest", "127.0.0.1"), authority.client("operator")
    tokens = tmp_path / "tokens.toml"
    entries = "".join(f'[{who}]\ntoken = "{TOKENS[who]}"\nmay = "{who}"\n' for who in TOKENS)
    for name, text in {"tokens.toml": entries, **{f"{who}.token": TOKENS[who] for who in TOKENS}}.items():
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(text)
    settings = {"tokens_file": tokens, "rest_certificate": server.certificate, "rest_key": server.key}
    settings["rest_client_ca"] = authority.certificate
    context = ssl.create_default_context(cafile=authority.certificate)
    context.load_cert_chain(client.certificate, client.key)
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    with Controller(ovs, tmp_path, lines, tls=context, token=TOKENS["admin"]) as controller:
        yield controller
    controller.assert_log_clean()
    assert not any(token in controller.log for token in TOKENS.values())


def test_a_token_and_certificates_let_in_and_each_lack_is_told(
    guarded: Controller, own_hoaflow: Operator, tmp_path: Path
) -> None:
    pki = tmp_path / "pki"
    at = ["--controller", guarded.url]
    signed = [*at, "--ca", f"{pki}/ca.crt"]
    shown = [*signed, "--certificate", f"{pki}/operator.crt", "--key", f"{pki}/operator.key"]
    reader, admin = f"{tmp_path}/read.token", f"{tmp_path}/admin.token"
    assert "give --ca" in own_hoaflow("routers", *at, status=3).err
    assert "TLS failed" in own_hoaflow("routers", *signed, status=3).err
    assert "give --token-file" in own_hoaflow("routers", *shown, status=4).err
    assert own_hoaflow.json("routers", *shown, "--token-file", reader) == {"routers": []}
    assert "403" in own_hoaflow("drain", "1", *shown, "--token-file", reader, status=4).err
    assert "no router" in own_hoaflow("drain", "1", *shown, "--token-file", admin, status=1).err
    environment = {"HOAFLOW_CA": f"{pki}/ca.crt", "HOAFLOW_TOKEN_FILE": reader, "HOAFLOW_CONTROLLER": guarded.url}
    environment |= {"HOAFLOW_CERTIFICATE": f"{pki}/operator.crt", "HOAFLOW_KEY": f"{pki}/operator.key"}
    assert "no router" in own_hoaflow("routers", environment=environment).err
    config = str(tmp_path / "controller.conf")
    checked = own_hoaflow("check-config", "--config-file", config, environment=environment, status=5).out
    results = {line.split()[1]: line.split()[0] for line in checked.splitlines() if not line.startswith(" ")}
    assert results == {
        **dict.fromkeys(("settings", "REST", "OpenFlow", "controller", "access"), "ok"),
        **dict.fromkeys(("ready", "offload"), "wrong"),
    }
    bundle = tmp_path / "bundle.tar.gz"
    own_hoaflow("support-bundle", "-o", str(bundle), "--config-file", config, environment=environment)
    with tarfile.open(bundle) as packed:
        texts = [file.read().decode() for member in packed if (file := packed.extractfile(member))]
    assert not any(token in text for text in texts for token in TOKENS.values())
    (tmp_path / "tokens.toml").chmod(0o644)
    assert "others can read" in own_hoaflow("check-config", "--no-connect", "--config-file", config, status=5).out
