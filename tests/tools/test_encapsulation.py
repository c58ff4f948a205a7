# SPDX-License-Identifier: Apache-2.0
"""`make bench-route` on a small scale, with real endpoints and packets."""

import json
from pathlib import Path

import pytest

from tools.benchmarks import encapsulation


def test_all_ways_are_measured_and_packets_come_out_as_they_should(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    # So many packets that a few of neighbour discovery among them change no mean.
    few = ["--bindings", "20", "--rounds", "1", "--packets", "2000"]
    assert encapsulation.main([*few, "--output", str(output)]) == 0
    found = json.loads(output.read_text())["figures"]
    assert found.keys() == {str(way) for way in encapsulation.WAYS}
    assert all(figures["packet"] > 0 < figures["full"] for figures in found.values())
    assert "read all 20 (s)" in capsys.readouterr().out
