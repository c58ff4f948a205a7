# SPDX-License-Identifier: Apache-2.0
"""The generated pages say what the programs say of themselves, and the flows explained are those that a switch has."""

from pathlib import Path

import pytest

from tests.support.controller import Controller
from tests.support.dumps import BACKENDS, DUMPS, record
from tests.support.ovs import Ovs
from tools.manual import conformance
from tools.manual.__main__ import DOCS, pages
from tools.manual.pipeline import explanation


def test_the_generated_pages_are_up_to_date() -> None:
    written = pages()
    assert {path.name for path in written} == {
        "cli.md",
        "rest.md",
        "settings.md",
        "pipeline.md",
        "metrics.md",
        "logs-and-events.md",
        "conformance.md",
        "reliability.md",
    }
    for path, text in written.items():
        assert path.read_text() == text, f"{path.relative_to(DOCS.parent)} is out of date: make pages"


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_flows_explained_are_those_of_a_real_switch(ovs: Ovs, tmp_path: Path, backend: str) -> None:
    with Controller(ovs, tmp_path) as controller:
        assert record(ovs, controller, backend) == (DUMPS / f"{backend}.txt").read_text(), "make pages"


def test_a_requirement_without_a_test_says_why_it_is_not_met(tmp_path: Path) -> None:
    path = tmp_path / "conformance.toml"
    path.write_text(
        '[[group]]\ntitle = "t"\nof = "home agent"\n[[group.requirement]]\nsection = "9"\nlevel = ""\ntext = "x"\n'
    )
    with pytest.raises(ValueError, match="name one, or say"):
        conformance.groups(path)


def test_a_flow_that_nobody_has_explained_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match="no words for table classify, priority 7"):
        explanation("cookie=0x686f616600000002, table=0, n_packets=0, priority=7 actions=NORMAL", "route")
