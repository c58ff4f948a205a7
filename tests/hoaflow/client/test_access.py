# SPDX-License-Identifier: Apache-2.0
"""Options for the controller, as agent and bridge have them, and the environment in place of them."""

from __future__ import annotations

import pytest

import ha_bridge.__main__
import hoaflow.router.cli

ONE, TWO, THREE = (f"http://192.0.2.{number}:8080" for number in (1, 2, 3))
PROGRAMS = pytest.mark.parametrize(
    ("program", "needed"),
    [
        (hoaflow.router.cli, ["run", "--bridge", "br0"]),
        (ha_bridge.__main__, ["--home-agent", "2001:db8:99::1", "--home-prefix", "2001:db8:99::/64"]),
    ],
    ids=["agent", "bridge"],
)


@PROGRAMS
@pytest.mark.parametrize(
    ("environment", "options", "urls"),
    [
        (ONE, [], [ONE]),
        (f" {ONE}/ {TWO} ", [], [ONE, TWO]),
        (ONE, ["--controller", TWO], [TWO]),
        ("", ["--controller", ONE, TWO, "--controller", THREE], [ONE, TWO, THREE]),
    ],
)
def test_the_environment_names_the_controllers_unless_an_option_does(
    program: object,
    needed: list[str],
    environment: str,
    options: list[str],
    urls: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOAFLOW_CONTROLLER", environment)
    parsed = program.build_parser().parse_args([*needed, *options])  # type: ignore[attr-defined]
    assert parsed.controller == urls


@PROGRAMS
@pytest.mark.parametrize(
    ("environment", "said"),
    [("here", "--controller: expected http://HOST:PORT"), (" ", "required: --controller")],
)
def test_no_controller_or_an_unusable_one_is_wrong_usage(
    program: object,
    needed: list[str],
    environment: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOAFLOW_CONTROLLER", environment)
    with pytest.raises(SystemExit) as ended:
        program.build_parser().parse_args(needed)  # type: ignore[attr-defined]
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
