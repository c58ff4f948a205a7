# SPDX-License-Identifier: Apache-2.0
"""Settings are checked at start, and what is wrong is said in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from oslo_config import cfg

from controller.core.flows import Goto
from controller.settings import WrongSettings, load
from tests.support.checkout import CHECKOUT
from topologies.waiting import patient


def settings(directory: Path, text: str) -> cfg.ConfigOpts:
    """Return a configuration with this file."""
    path = directory / "controller.conf"
    path.write_text(text)
    conf = cfg.ConfigOpts()
    conf(["--config-file", str(path)])
    return conf


def test_settings_are_read(tmp_path: Path) -> None:
    text = "[DEFAULT]\nverbose = true\n[hoaflow]\nfirst_table = 10\nclassify_miss = 40\nagent_lease = 5\n"
    loaded = load(settings(tmp_path, text))
    assert (loaded.first_table, loaded.classify_miss, loaded.agent_lease) == (10, (Goto("40"),), 5.0)


def test_everything_has_a_default(tmp_path: Path) -> None:
    assert load(settings(tmp_path, "")).longest_lease == 60


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("agent-lease = 5", "agent-lease"),
        ("first_tabel = 1", "first_tabel"),
        ("first_table = 251", "first_table"),
        ("first_table = one", "first_table"),
        ("agent_lease = 0", "agent_lease"),
        ("classify_miss = drop", "classify_miss"),
        ("classify_miss = 255", "classify_miss"),
        ("classify_miss = 0", "classify_miss"),
        ("first_table = 10\nclassify_miss = 13", "classify_miss"),
        ("agent_lease = nan", "agent_lease"),
        ("event_heartbeat = 31", "event_heartbeat"),  # clients take longer silence for a dead connection
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, line: str, named: str) -> None:
    with pytest.raises(WrongSettings, match=named):
        load(settings(tmp_path, f"[hoaflow]\n{line}\n"))


def test_the_controller_does_not_start_with_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "controller.conf").write_text("[hoaflow]\nagent_lease = long\n")
    command = [str(Path(sys.executable).with_name("ryu-manager")), "--config-file", str(tmp_path / "controller.conf")]
    done = subprocess.run(
        [*command, "controller/app.py"], cwd=CHECKOUT, capture_output=True, text=True, timeout=patient(60), check=False
    )
    assert done.returncode == 2
    assert "hoaflow: [hoaflow]" in done.stderr
    assert "agent_lease" in done.stderr
    assert "Traceback" not in done.stderr
