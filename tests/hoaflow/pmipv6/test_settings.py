# SPDX-License-Identifier: Apache-2.0
"""The command lines of anchor and access gateway."""

from pathlib import Path

import pytest

from hoaflow.local_mobility_anchor.__main__ import main as anchor
from hoaflow.mobile_access_gateway.__main__ import main as gateway
from tests.support.proxy_mobility import HOME_PREFIX, LMA, MAG_1, MOBILE_NODES

ANCHOR = ["--local-mobility-anchor", LMA, "--home-prefix", HOME_PREFIX]
GATEWAY = ["--mobile-access-gateway", MAG_1, "--local-mobility-anchor", LMA, "--access-link", "a0"]


@pytest.fixture
def nodes(tmp_path: Path) -> list[str]:
    path = tmp_path / "mobile-nodes.toml"
    path.write_text(MOBILE_NODES)
    return ["--mobile-nodes", str(path)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "--keys --insecure"),
        (["--insecure", "--timestamp-window", "3.1"], "at most 3 s"),
        (["--insecure", "--heartbeat", "0"], "seconds above 0"),
        (["--insecure", "--max-lifetime", "3"], "from 4 to"),
        (["--insecure", "--link-local", "2001:db8::1"], "expected a link-local address"),
        (["--keys", "/nonexistent"], "No such file"),
    ],
)
def test_an_anchors_wrong_options_are_told(
    nodes: list[str], arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        raise SystemExit(anchor([*ANCHOR, *nodes, *arguments]))
    assert end.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--hold", "31"], "--hold: expected at most 30 s"),
        (["--held-packets", "-1"], "--held-packets: expected 0 to"),
        (["--lifetime", "3"], "from 4 to"),
        (["--link-local", "2001:db8::1"], "expected a link-local address"),
    ],
)
def test_a_gateways_wrong_options_are_told(
    nodes: list[str], arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        raise SystemExit(gateway([*GATEWAY, *nodes, "--insecure", *arguments]))
    assert end.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_gateway_without_a_key_for_its_anchor_is_told(
    nodes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys.toml"
    keys.touch(mode=0o600)
    keys.write_text(f'["{MAG_1}"]\nspi = 256\nkey = "{"0" * 32}"\n')
    assert gateway([*GATEWAY, *nodes, "--keys", str(keys)]) == 2
    assert f"expected a key for the anchor, {LMA}, got {MAG_1}" in capsys.readouterr().err


def test_a_prefix_that_is_not_routed_here_is_told(nodes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--local-mobility-anchor", LMA, "--home-prefix", "2001:db8:f2::/48", "--insecure"]
    assert anchor([*options, *nodes]) == 2
    assert "lies in no --home-prefix (2001:db8:f2::/48)" in capsys.readouterr().err
