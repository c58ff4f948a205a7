# SPDX-License-Identifier: Apache-2.0
"""Runs add their rows to what is kept, and the page shows all of them."""

from pathlib import Path

from tools.chaos import record

ROW = {
    "seed": 7, "minutes": 10.0, "faults": {"host": 2}, "moves": 3, "sent": 12345, "lost": {"move": 4, "cut off": 1},
    "slowness": {"mean": 1.2, "worst": 3.0}, "worst_recovery": {"fault": "cut off", "seconds": 2.5},
    "violations": [], "errors": [], "steps": ["left out"],
}  # fmt: skip


def test_each_run_adds_its_row(tmp_path: Path) -> None:
    path = tmp_path / "reliability.json"
    path.write_text("[]\n")
    rows = [ROW | {"seed": seed} | record.circumstances("user") for seed in (7, 8)]
    for row in rows:
        record.keep(row, path)
    kept = record.kept(path)
    assert [row["seed"] for row in kept] == [7, 8]
    assert not any("steps" in row for row in kept)
    *_, last = record.table(kept).splitlines()
    assert last.startswith(f"| 8 | {rows[0]['commit']} | ")
    assert last.endswith("user | 1.2, at worst 3 | host 2 | 3 | 12,345 | cut off 1, move 4 | 2.5 s (cut off) | 0 |")
