# SPDX-License-Identifier: Apache-2.0
"""Support bundles: what is in them, and what must never be."""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoaflow.cli.pseudonyms import Pseudonyms
from hoaflow.cli.redaction import HIDDEN, Redaction, secrets_in
from tests.support.bench import FIRST, HOME_ADDRESS, HOME_AGENT, Bench, binding
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.operator import Operator
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

SECRET = "hunter2hunter2hunter2"


@pytest.fixture
def bench(ovs: Ovs, tmp_path: Path) -> Iterator[Bench]:
    """Provide a registered mobile node whose traffic goes direct, on a host that is also the router."""
    with Controller(ovs, tmp_path) as controller:
        ovs.add_bridge("br0", 1, OPENFLOW_PORT)
        ovs.add_port("br0", "tin", 3)
        ovs.vsctl("set", "interface", "tin", f"options:psk={SECRET}")
        bench = Bench(ovs, controller)
        bench.announce(lease=60)
        bench.snapshot(binding())
        bench.agent()
        wait_for("the binding is active", lambda: bench.state() == "active")
        yield bench


def unpacked(path: Path) -> dict[str, str]:
    """Return the files of a bundle, by name without the leading directory."""
    with tarfile.open(path) as bundle:
        read = {}
        for member in bundle.getmembers():
            file = bundle.extractfile(member)
            assert file is not None, f"{member.name} is no file"
            read[member.name.partition("/")[2]] = file.read().decode()
    return read


def test_a_bundle_has_all_that_helps_and_nobodys_address_or_secret(bench: Bench, tmp_path: Path) -> None:
    hoaflow = Operator(bench.ovs)
    settings = tmp_path / "settings.conf"
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[me]\ntoken = "{SECRET}tokens"\nmay = "admin"\n')
    settings.write_text(f"[hoaflow]\ntokens_file = {tokens}\nagent_lease = 9\n# password = {SECRET}\n")
    log = tmp_path / "some.log"
    log.write_text(f"first\ncare_of={FIRST} bearer {SECRET}tokens\nGET /v1 token={SECRET}tokens\n")
    path = tmp_path / "bundle.tar.gz"
    command = ["support-bundle", "--output", str(path), "--config-file", str(settings), "--log", str(log)]
    environment = {"OVS_RUNDIR": str(bench.ovs.directory)}
    said = hoaflow(*command, "--lines", "2", environment=environment)
    assert f"{path} written: " in said.out
    assert said.out.rstrip().endswith("files. Look through it before you send it.")
    assert path.stat().st_mode & 0o777 == 0o600
    files = unpacked(path)
    expected = {"README.txt", "versions.json", "router.txt", "controller.conf", "controller/bindings.json"}
    expected |= {"controller/events.json", "controller/cluster.json", "controller/flows-0000000000000001.json"}
    assert expected <= files.keys()
    together = "\n".join(files.values())
    assert SECRET not in together
    assert HOME_ADDRESS not in together
    assert FIRST not in together
    assert HOME_AGENT in files["controller/home-agents.json"]
    assert '"home_address": "home-address-1"' in files["controller/bindings.json"]
    assert '"care_of_address": "care-of-address-1"' in files["controller/bindings.json"]
    assert "ipv6_dst=home-address-1 " in files["router.txt"], "what belongs together can be told by its label"
    assert "ovs-ofctl -O OpenFlow13 --timeout=10 dump-flows br0" in files["router.txt"]
    assert "agent_lease = 9" in files["controller.conf"]
    (logged,) = [text for name, text in files.items() if name.startswith("logs/")]
    assert logged == f"care_of=care-of-address-1 bearer {HIDDEN}\nGET /v1 token={HIDDEN}\n"
    assert "File exists" in hoaflow(*command, environment=environment, status=1).err
    path.unlink()
    hoaflow(*command, "--with-addresses", environment=environment)
    files = unpacked(path)
    assert f"ipv6_dst={HOME_ADDRESS} " in files["router.txt"]
    assert SECRET not in "\n".join(files.values())


def test_a_bundle_is_made_without_a_controller_too(ovs: Ovs, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    said = Operator(ovs)("support-bundle", "-o", str(path), "--log", "/nowhere")
    assert "Connection refused" in said.err
    assert "/nowhere: No such file" in said.err
    files = unpacked(path)
    assert "Connection refused" in files["controller/bindings.json"]
    assert "Incomplete" in files["README.txt"]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "ipv6_src={},x",
        "set_field:{}->tun_ipv6_src",
        "[{}]:8080",
        "at {}: gone",
        "at {}.",
        '"{}/64"',
        "a {} b",
        "({})",
    ],
)
def test_an_address_is_found_wherever_it_stands(text: str) -> None:
    for address in (
        "2001:db8:2::2",
        "2001:DB8:2:0:0:0:0:2",
        "2001:db8::ffff:1:2:3",
        "2001:db8::192.0.2.1",
        "10.99.0.7",
    ):
        assert Pseudonyms().applied(text.format(address)) == text.format("address-1")


def test_what_is_no_address_stays() -> None:
    text = "18:43:01 02:00:00:00:00:0a Open vSwitch 3.1.0 table=1 ::1 127.0.0.1 ff02::1 key::value a:b 1.2.3"
    assert Pseudonyms().applied(text) == text


def test_what_is_kept_stays_and_one_address_has_one_label() -> None:
    pseudonyms = Pseudonyms()
    pseudonyms.keep(["2001:db8:99::1", "2001:db8:99::/64"])
    said = pseudonyms.applied("2001:db8:99::1 2001:db8:99::/64 2001:db8:99::7 2001:0DB8:99::0007 0x" + "20010db8" * 4)
    assert said == "2001:db8:99::1 2001:db8:99::/64 address-1 address-1 address-2"


@given(
    st.ip_addresses(v=6), st.text(alphabet=' ,;="->()[]{}\n', max_size=3), st.text(alphabet=' ,;="-<()[]\n', max_size=3)
)
def test_no_address_survives_between_any_signs(address: object, before: str, after: str) -> None:
    pseudonyms = Pseudonyms()
    text = pseudonyms.applied(f"{before}{address}{after}")
    whole = str(address)
    assert whole not in text or whole in ("::", "::1") or whole.startswith("ff")


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f'token = "{SECRET}"',
        f'{{"token": "{SECRET}"}}',
        f'options: {{psk="{SECRET}", remote_ip="x"}}',
        f"password:{SECRET}",
        "key = 00112233445566778899aabbccddeeff",
        f"http://user:{SECRET}@host/",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
        f"-----BEGIN EC PRIVATE KEY-----\n{SECRET} cut short",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    said = Redaction([]).applied(text)
    assert HIDDEN in said
    assert not re.search(f"{SECRET}|00112233", said)


def test_names_of_files_are_no_secrets() -> None:
    text = "tokens_file = /etc/hoaflow/tokens.toml\nrest_key = /etc/hoaflow/rest.key\nevent=token-read file=/etc/x"
    assert Redaction([]).applied(text) == text


def test_secrets_of_a_file_are_known_wherever_they_stand(tmp_path: Path) -> None:
    alone = tmp_path / "token"
    alone.write_text("abcdefghijklmnop\n")
    redaction = Redaction([*secrets_in(alone), *secrets_in(tmp_path / "nowhere")])
    assert redaction.applied("x abcdefghijklmnop y") == f"x {HIDDEN} y"
