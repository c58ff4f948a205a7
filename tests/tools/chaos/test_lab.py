# SPDX-License-Identifier: Apache-2.0
"""What is taken for left over on a host, and for a program that is about to start."""

import os
from pathlib import Path

from tools.chaos.addresses import plan
from tools.chaos.lab import Lab, namespaces
from tools.chaos.programs import Program
from topologies.waiting import patient


def test_a_namespace_that_was_made_again_is_not_left_over() -> None:
    assert namespaces("hoaflow-b (id: 9)\nhoaflow-a\n") == namespaces("hoaflow-a (id: 12)\nhoaflow-b (id: 11)\n")
    assert namespaces("hoaflow-a\n") != namespaces("")


def test_a_program_starts_until_it_says_that_it_serves(tmp_path: Path) -> None:
    said = tmp_path / "said"
    os.mkfifo(said)
    lab = Lab(plan(2), tmp_path)
    lab.bed.logs.mkdir()
    assert not lab.starting
    lab.programs = {"mn1": Program("mn1", ["cat", str(said)], "serving")}
    process = lab.bed.start("mn1", lab.programs["mn1"].command)
    assert lab.starting
    with said.open("w") as out:
        print("serving", file=out, flush=True)
        process.wait_for("serving", patient(10))
        assert not lab.starting
    process.wait()
    assert not lab.starting
