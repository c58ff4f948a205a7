# SPDX-License-Identifier: Apache-2.0
"""deploy/kubernetes as an operator has it: a copy of the checkout, in which secrets are made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.checkout import CHECKOUT
from topologies.waiting import patient

KUBERNETES = CHECKOUT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
# Those with secrets of their own: the overlay `cluster` has those of `production`.
WITH_SECRETS = [name for name in OVERLAYS if (KUBERNETES / "overlays" / name / "routers").exists()]

IMAGE = CHECKOUT / "deploy" / "image" / "bin"
PATH = f"{Path(sys.executable).parent}:{IMAGE}:{os.environ['PATH']}:/usr/sbin:/sbin"
"""Where a pod finds its programs: here those of this environment."""


class Deployment:
    """A copy of what deploying to Kubernetes takes, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory / "deploy" / "kubernetes"
        shutil.copytree(KUBERNETES, self.folder, ignore=shutil.ignore_patterns("secrets"))
        shutil.copytree(CHECKOUT / "scripts", directory / "scripts")

    def overlay(self, name: str) -> Path:
        """Return the folder of an overlay."""
        return self.folder / "overlays" / name

    def make_secrets(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Return what `make-secrets ARGUMENTS` did; it may have failed."""
        command = [str(self.folder / "make-secrets"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=patient(60))
