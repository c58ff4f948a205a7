# SPDX-License-Identifier: Apache-2.0
"""`make bench-takeover` with one round of each act, with real pods and a real etcd."""

import json
from pathlib import Path

import pytest

from tests.support.pods import LEASE
from tools.benchmarks import takeover


def test_each_act_is_followed_by_a_takeover_and_a_host_that_is_cut_off_loses_packets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    assert takeover.main(["--rounds", "1", "--lease", str(LEASE), "--output", str(output)]) == 0
    figures = json.loads(output.read_text())["figures"]
    assert figures.keys() == takeover.ACTS.keys()
    assert all(len(rounds) == 1 for rounds in figures.values())
    assert figures["both links of the owner taken down"][0]["lost"] > 0
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in takeover.ACTS)
