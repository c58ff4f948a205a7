# SPDX-License-Identifier: Apache-2.0
"""Whoever installs one part gets all that its programs import."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.support.checkout import CHECKOUT

PACKAGES = {
    "bridge": ("ha_bridge",),
    "cli": ("hoaflow.cli",),
    "controller": ("controller",),
    "home-agent": (
        "hoaflow.home_agent",
        "hoaflow.foreign_agent",
        "hoaflow.mobile_ipv4",
        "hoaflow.local_mobility_anchor",
        "hoaflow.mobile_access_gateway",
    ),
    "router": ("hoaflow.router",),
}
REPAIR = "from controller.southbound.manager import repair; repair()"  # Ryu can't be imported before
IMPORT_ALL = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not in this part's requirements")

names, absent = sys.argv[1].split(","), set(sys.argv[2].split(","))
sys.meta_path.insert(0, Absent())
for name in names:
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
        importlib.import_module(module.name)
"""


@pytest.mark.parametrize("part", PACKAGES)
def test_a_part_imports_only_what_it_requires(part: str) -> None:
    pinned = (CHECKOUT / "requirements" / f"{part}.txt").read_text()
    has = {_normal(name) for name in re.findall(r"^([\w.-]+)==", pinned, re.M)} | {"hoaflow", "setuptools"}
    absent = {
        module
        for module, distributions in packages_distributions().items()
        if not has & set(map(_normal, distributions)) and module.isidentifier()
    }
    assert "pytest" in absent
    code = (REPAIR if part == "controller" else "") + IMPORT_ALL
    command = [sys.executable, "-W", "ignore", "-c", code, ",".join(PACKAGES[part]), ",".join(sorted(absent))]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
