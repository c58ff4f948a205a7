# SPDX-License-Identifier: Apache-2.0
"""A wheel holds the packages of hoaflow alone, and its commands run outside of the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
# All that an installation puts into site-packages, besides its metadata.
PACKAGES = {"controller", "ha_bridge", "hoaflow", "topologies"}
# What a command needs besides modules: pages of the controller's HTTP front, and the types' marker.
FILES = {"controller/dashboard/index.html", "controller/rest/docs/index.html", "hoaflow/py.typed"}
TIMEOUT = 300.0  # seconds, for a build


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a wheel of the checkout, built from a copy: setuptools would take in what lies in build/ from before."""
    source, output = tmp_path_factory.mktemp("source") / "hoaflow", tmp_path_factory.mktemp("wheel")
    leave = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests")
    shutil.copytree(CHECKOUT, source, ignore=leave)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(output), str(source))
    (built,) = output.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide the folder of an environment's commands in which the wheel is installed, with this one's dependencies."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=TIMEOUT)
    python = environment / "bin" / "python"
    _pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    # A path file names a folder but runs none of the path files in it: this checkout, installed there, is not found.
    own = environment / sysconfig.get_path("purelib", vars={"base": str(environment)})
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, timeout=TIMEOUT, env=os.environ | {"PIP_ROOT_USER_ACTION": "ignore"})


def test_a_wheel_holds_these_packages_and_no_other(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == PACKAGES
    assert names >= FILES


@pytest.mark.parametrize("command", PROJECT["scripts"])
def test_an_installed_command_runs_outside_of_the_checkout(command: str, commands: Path, tmp_path: Path) -> None:
    done = _run(tmp_path, commands / command, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout.lower()


def test_an_installed_command_finds_the_parts_that_it_runs(commands: Path, tmp_path: Path) -> None:
    settings = tmp_path / "controller.conf"
    settings.write_text("[hoaflow]\nlog_level = debug\n")
    done = _run(tmp_path, commands / "hoaflow", "check-config", "--no-connect", "--config-file", settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _run(tmp_path, commands / "hoaflow", "--version").stdout == f"hoaflow {PROJECT['version']}\n"


def test_the_installed_modules_are_those_of_the_wheel(commands: Path, tmp_path: Path) -> None:
    program = "import hoaflow, controller; print(hoaflow.__file__, controller.__file__)"
    found = _run(tmp_path, commands / "python", "-P", "-c", program).stdout.split()
    assert len(found) == 2
    assert all(Path(path).is_relative_to(commands.parent) for path in found), found


def _run(directory: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin"}  # nothing that would lead back to the checkout
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
