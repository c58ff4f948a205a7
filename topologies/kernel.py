# SPDX-License-Identifier: Apache-2.0
"""Whether this host's kernel can run the `flow` backend, by `hoaflow-router doctor`."""

import json
import subprocess
import sys
from pathlib import Path

from topologies.processes import ProcessError

CHECKOUT = Path(__file__).parents[1]
DOCTOR_TIMEOUT = 120.0  # seconds; an emulated kernel is slow


def has_flow_backend() -> bool:
    """Try it; needs root. Raises ProcessError when that fails, subprocess.TimeoutExpired."""
    command = [sys.executable, "-m", "hoaflow.router", "doctor", "--json"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=DOCTOR_TIMEOUT)
    if not done.stdout:
        raise ProcessError(f"hoaflow-router doctor: exit status {done.returncode}: {done.stderr.strip()}")
    return bool(json.loads(done.stdout)["healthy"])
