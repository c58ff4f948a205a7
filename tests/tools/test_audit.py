# SPDX-License-Identifier: Apache-2.0
"""`make audit` calls packages fine only if the database of known vulnerabilities has said so of each of them."""

from pathlib import Path
from typing import Any

import pytest

from tools import audit

FINE = {"name": "attrs", "version": "25.1.0", "vulns": []}
VULNERABLE = {"name": "ryu", "version": "4.34", "vulns": [{"id": "PYSEC-2020-1", "fix_versions": ["4.35"]}]}
UNASKED = {"name": "msgspec", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("dependencies", "status", "said"),
    [
        ([FINE, FINE], audit.FINE, "of any of 2 packages"),
        ([FINE, VULNERABLE], audit.VULNERABLE, "ryu 4.34: PYSEC-2020-1, mended in 4.35"),
        ([FINE, UNASKED], audit.UNKNOWN, "of 1 of 2 packages nothing is known"),
        ([UNASKED, VULNERABLE], audit.VULNERABLE, "of 1 of 2 packages nothing is known"),
        ([], audit.UNKNOWN, "no sign that all is well"),
    ],
)
def test_only_what_was_asked_about_is_fine(dependencies: list[dict[str, Any]], status: int, said: str) -> None:
    found, lines = audit.judged(dependencies)
    assert found == status
    assert said in "\n".join(lines)


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("echo 'cannot resolve the host' >&2; exit 1", audit.UNKNOWN, "nothing is known of it: cannot resolve"),
        ("""echo '{"dependencies": [{"name": "a", "skip_reason": "b"}]}'""", audit.UNKNOWN, "no sign that all is well"),
        ("""echo '{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}'""", audit.FINE, "of any of 2"),
    ],
)
@pytest.mark.programs
def test_a_database_that_does_not_answer_is_never_taken_for_good_news(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    status: int,
    said: str,
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(audit, "PROGRAM", program)
    assert audit.main() == status
    assert said in "".join(capsys.readouterr())
