# SPDX-License-Identifier: Apache-2.0
"""What scripts/ installs, with apt-get replaced by one that only notes what it was asked for."""

import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[1] / "scripts/setup-containers"
NOTE = '#!/bin/sh\necho "$0 $*" >>"$NOTES"\n'
# A mount namespace of its own hides the engine that this host may have.
WITHOUT_ENGINE = 'mount -t tmpfs tmpfs /usr/sbin; exec "$0"'


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ((), ["docker.io"]),
        (("docker",), ["docker.io"]),  # the client alone, as on many machines
        (("docker", "dockerd"), []),
    ],
)
def test_an_engine_is_installed_where_there_is_none(tmp_path: Path, there: tuple[str, ...], missing: list[str]) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    for program in ("apt-get", "docker-compose", "mmdebstrap", "iptables", *there):
        (tmp_path / program).write_text(NOTE)
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "NOTES": str(notes)}
    command = ["unshare", "--mount", "bash", "-c", WITHOUT_ENGINE, str(SETUP)]
    subprocess.run(command, env=os.environ | environment, check=True, timeout=30)
    (*_, installed) = ["", *(line for line in notes.read_text().splitlines() if " install " in line)]
    assert [word for word in installed.split() if word == "docker.io"] == missing
