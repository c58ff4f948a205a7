# SPDX-License-Identifier: Apache-2.0
"""Ask `hoaflow-router doctor` whether this host's kernel can run the `flow` backend."""

import json
import subprocess
import sys
from pathlib import Path

from topologies.processes import ProcessError
from topologies.waiting import patient

CHECKOUT = Path(__file__).parents[1]
DOCTOR_TIMEOUT = patient(60.0)  # seconds


def has_flow_backend() -> bool:
    """Return whether the kernel has Open vSwitch's datapath and ip6_tunnel. Needs root.

    Raises ProcessError when doctor fails, subprocess.TimeoutExpired.
    """
    command = [sys.executable, "-m", "hoaflow.router", "doctor", "--json"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=DOCTOR_TIMEOUT)
    if not done.stdout:
        raise ProcessError(f"hoaflow-router doctor: exit status {done.returncode}: {done.stderr.strip()}")
    return bool(json.loads(done.stdout)["healthy"])
