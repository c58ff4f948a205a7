# SPDX-License-Identifier: Apache-2.0
"""deploy/openstack: the user data is what cloud-init takes, and starts what is there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[1]
USER_DATA = sorted((CHECKOUT / "deploy" / "openstack").glob("*.yaml"))
CLOUD_INIT = CHECKOUT / "build" / "cloud-init"


@pytest.fixture(scope="module")
def cloud_init() -> dict[str, str]:
    """The environment in which Debian's cloud-init can be imported. It is not installed: it acts at every boot."""
    subprocess.run(CHECKOUT / "scripts" / "setup-tests", check=True, timeout=300)
    return os.environ | {"PYTHONPATH": str(CLOUD_INIT / "usr/lib/python3/dist-packages")}


def check(path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloudinit.cmd.main", "schema", "--config-file", str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("path", USER_DATA, ids=lambda path: path.stem)
def test_cloud_init_takes_it(cloud_init: dict[str, str], path: Path) -> None:
    result = check(path, cloud_init)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Valid cloud-config: {path}" in result.stdout


def test_what_is_wrong_is_found(cloud_init: dict[str, str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("#cloud-config\nwrite_files: yes please\n")
    assert check(wrong, cloud_init).returncode == 1


@pytest.mark.parametrize("path", USER_DATA, ids=lambda path: path.stem)
def test_what_it_names_is_in_the_checkout(path: Path) -> None:
    data: dict[str, Any] = yaml.safe_load(path.read_text())
    commands = " ".join(word for command in data["runcmd"] for word in command)
    named = re.findall(r"/usr/src/hoaflow/(\S+)", commands)
    assert len(named) >= 2
    for name in named:
        assert list(CHECKOUT.glob(name)), name
    units = [re.sub(r"@.*", "@", unit) + ".service" for unit in data["runcmd"][-1][3:]]
    for unit in units:
        assert (CHECKOUT / "deploy" / "systemd" / unit).exists(), unit
    # What a unit reads is written with everything that it expands.
    written = {file["path"]: file["content"] for file in data["write_files"]}
    for unit in units:
        text = (CHECKOUT / "deploy" / "systemd" / unit).read_text()
        for environment in re.findall(r"EnvironmentFile=-?(\S+)", text):
            content = written[environment.replace("%i", "br0")]
            for variable in re.findall(r"\$\{?([A-Z_]+)", "".join(re.findall(r"ExecStart=(?:.*\\\n)*.*", text))):
                assert variable == "STATE_DIRECTORY" or f"{variable}=" in content, variable
