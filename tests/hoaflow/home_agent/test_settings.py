# SPDX-License-Identifier: Apache-2.0
"""What the home agent refuses to start with, and what it says then."""

from ipaddress import IPv6Address
from pathlib import Path

import pytest

from hoaflow.home_agent.__main__ import main
from hoaflow.home_agent.advertising import Advertising
from hoaflow.home_agent.settings import check, parser
from hoaflow.mobility.authentication import KeyFileError, load_keys

GOOD = '["2001:db8:99:0::100"]\nspi = 256\nkey = "000102030405060708090a0b0c0d0e0f"\n'
COMMAND = ["--home-agent", "2001:db8:99::1", "--home-prefix", "2001:db8:99::/64", "--home-link", "lo", "--insecure"]


def key_file(directory: Path, text: str, mode: int = 0o600) -> Path:
    """Return a key file with this text."""
    path = directory / "keys.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def without(option: str) -> list[str]:
    """Return the good command line without an option and its value."""
    at = COMMAND.index(option)
    return COMMAND[:at] + COMMAND[at + 2 :]


def test_a_good_command_line() -> None:
    settings = check(parser().parse_args(COMMAND))
    assert (settings.policy.home_agent, settings.policy.keys) == ("2001:db8:99::1", None)
    assert settings.console == ("127.0.0.1", 7777)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--home-agent", "2001:db8:98::1", *without("--home-agent")], "2001:db8:98::1 is no host address in the home"),
        (["--home-agent", "2001:db8:99::", *without("--home-agent")], "2001:db8:99:: is no host address in the home"),
        (["--home-agent", "192.0.2.1", *without("--home-agent")], "expected an IPv6 address"),
        (["--home-prefix", "2001:db8:99::1/64", *without("--home-prefix")], "expected an IPv6 prefix such as"),
        (["--home-prefix", "fe80::/64", *without("--home-prefix")], "expected the prefix of a link, unicast"),
        (["--home-link", "nowhere0", *without("--home-link")], "no interface 'nowhere0' here; there are: "),
        ([*COMMAND, "--max-lifetime", "3"], "expected 4 to 262140 seconds, got 3"),
        ([*COMMAND, "--max-bindings", "0"], "expected 1 or more, got 0"),
        ([*COMMAND, "--preference", "0"], "only with --advertise"),
        ([*COMMAND, "--default-router"], "only with --advertise"),
        (
            ["--home-prefix", "2001:db8:99::/122", *without("--home-prefix"), "--advertise", "30"],
            "2001:db8:99::/122 is too long to have an anycast address",
        ),
        (
            ["--protocol", "mipv4", *COMMAND[:-1], "--keys", "x", "--advertise", "30"],
            "--advertise: not with --protocol",
        ),
    ],
)
def test_wrong_settings_are_refused_in_words(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("console", ["7777", "127.0.0.1:70000"])
def test_a_console_has_host_and_port(console: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*COMMAND, "--console", console])
    assert f"argument --console: expected HOST:PORT, got {console!r}" in capsys.readouterr().err


def test_a_home_agent_advertises_itself_only_if_it_is_told_to() -> None:
    assert check(parser().parse_args(COMMAND)).advertising is None
    arguments = [*COMMAND, "--advertise", "30", "--preference", "65535", "--default-router"]
    found = check(parser().parse_args(arguments)).advertising
    assert found == Advertising(IPv6Address("2001:db8:99:0:fdff:ffff:ffff:fffe"), 30, 65535, default_router=True)


def test_one_says_keys_or_insecure() -> None:
    for arguments in (COMMAND[:-1], [*COMMAND, "--keys", "x"]):
        with pytest.raises(SystemExit):
            main(arguments)


def test_a_key_for_an_address_elsewhere_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = key_file(tmp_path, GOOD.replace("99", "98"))
    assert main([*COMMAND[:-1], "--keys", str(path)]) == 2
    assert '["2001:db8:98::100"]: not in the home prefix 2001:db8:99::/64' in capsys.readouterr().err


def test_a_file_that_is_no_journal_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shopping"
    path.write_text("milk\nbread\n")
    assert main([*COMMAND, "--journal", str(path)]) == 2
    assert "not a journal of hoaflow-ha" in capsys.readouterr().err
    assert path.read_text() == "milk\nbread\n"


def test_a_journal_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--journal", str(tmp_path / "nowhere" / "journal")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_keys_by_home_address(tmp_path: Path) -> None:
    keys = load_keys(key_file(tmp_path, GOOD))
    assert list(keys) == ["2001:db8:99::100"]
    assert (keys["2001:db8:99::100"].spi, keys["2001:db8:99::100"].key) == (256, bytes(range(16)))


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_keys(key_file(tmp_path, GOOD, mode))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "not TOML"),
        (GOOD.replace("2001:db8:99:0::100", "mn1"), "expected an IPv6 address"),
        (GOOD.replace("256", "255"), "expected an integer of 256 to 4294967295, got 255"),
        (GOOD.replace("256", '"256"'), "expected an integer"),
        (GOOD.replace("256", "true"), "expected an integer"),
        (GOOD.replace("0001", "xx"), "expected hexadecimal"),
        (GOOD.replace("0001", ""), "expected 16 bytes or more, got 14"),
        (GOOD + "algorithm = 1\n", "exactly spi and key"),
        ('"2001:db8:99::100" = 1\n', "exactly spi and key"),
        (GOOD + GOOD.replace("99:0::100", "99::100"), "2001:db8:99::100 is there already, spelled differently"),
    ],
)
def test_wrong_keys_are_refused_in_words(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(KeyFileError, match=said):
        load_keys(key_file(tmp_path, text))


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="nowhere: No such file"):
        load_keys(tmp_path / "nowhere")
