# SPDX-License-Identifier: Apache-2.0
"""What scripts/ installs and says, with programs in place of those that install that only note what they are asked."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

SETUP = CHECKOUT / "scripts/setup-containers"
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
    subprocess.run(command, env=os.environ | environment, check=True, timeout=120)
    (*_, installed) = ["", *(line for line in notes.read_text().splitlines() if " install " in line)]
    assert [word for word in installed.split() if word == "docker.io"] == missing


# Makes an environment whose Python is this one again, and says what pip says of 60 packages.
PYTHON = """#!/bin/bash
echo "python $*" >>"$NOTES"
case "$*" in
*"-m venv"*)
    mkdir -p "${!#}/bin" && cp "$FAKE/python3" "${!#}/bin/python"
    sed -n 's/^ryu-manager = "\\(.*\\):.*/\\1/p' pyproject.toml >"${!#}/bin/ryu-manager" ;;
*install*dev.txt*)
    for ((number = 0; number < 60; number++)); do echo "Collecting package-$number"; done
    echo "Building wheels for collected packages: ryu"
    echo "Installing collected packages: package-0, package-1" ;;
esac
"""
# A mount namespace of its own has it in the place of Debian's.
WITH_PYTHON = 'mount --bind "$FAKE/python3" /usr/bin/python3; exec scripts/setup'
# What is done, as noted, and before it what is said of it.
STEPS = [
    "says: reading the lists of Debian's packages",
    "apt-get update",
    "says: installing Debian packages, and what they need: .*mininet",
    "apt-get install",
    "says: making .venv, a Python environment",
    "python -m venv",
    "says: installing the tools that build Ryu",
    "python -m pip .*build.txt",
    r"says: installing \d+ Python packages, the longest step",
    "python -m pip .*dev.txt",
    "says:   25 collected",
    "says:   50 collected",
    "says:   Building wheels for collected packages",
    "says:   Installing collected packages",
    "says: installing hoaflow into .venv",
    "python -m pip .*--editable",
]


def test_setting_up_says_each_step_before_it_is_done_and_how_far_the_longest_one_is(tmp_path: Path) -> None:
    notes, fake, checkout = tmp_path / "notes", tmp_path / "fake", tmp_path / "checkout"
    shutil.copytree(CHECKOUT / "requirements", checkout / "requirements")
    (checkout / "scripts").mkdir()
    for name in ("scripts/setup", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, checkout / name)
    fake.mkdir()
    for program, text in (("apt-get", NOTE), ("python3", PYTHON), ("dpkg-query", '#!/bin/sh\necho "$STATUS"\n')):
        (fake / program).write_text(text)
        (fake / program).chmod(0o755)

    def set_up(status: str) -> list[str]:
        environment = {"PATH": f"{fake}:/usr/bin:/bin", "NOTES": str(notes), "FAKE": str(fake), "STATUS": status}
        with notes.open("w"), notes.open("a") as log:
            command = ["unshare", "--mount", "bash", "-c", WITH_PYTHON]
            subprocess.run(command, cwd=checkout, env=os.environ | environment, stderr=log, check=True, timeout=120)
        lines = notes.read_text().replace(f"{fake}/", "").splitlines()
        return [re.sub(r"^setup: \[ *\d+ s\]", "says:", line) for line in lines]

    lines = set_up("not-installed")
    place = 0
    for step in STEPS:
        found = [number for number, line in enumerate(lines) if re.match(step, line)]
        assert found, (step, lines)
        assert found[0] >= place, (step, lines)
        place = found[0]
    assert [line for line in set_up("installed") if line.startswith("says:")] == [], "it does nothing twice"
