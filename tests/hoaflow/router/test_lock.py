# SPDX-License-Identifier: Apache-2.0
"""Only root changes a host's tunnels."""

import subprocess
import sys

from tests.support.checkout import CHECKOUT
from topologies.waiting import patient

CHANGE = """
import os
from hoaflow.router.errors import RouterError
from hoaflow.router.lock import alone
os.setuid(65534)
try:
    with alone():
        print("changed")
except RouterError as error:
    print(error)
"""


def test_who_is_not_root_changes_no_tunnels() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHANGE], cwd=CHECKOUT, capture_output=True, text=True, timeout=patient(60)
    )
    assert done.stdout.startswith("root is needed"), done.stdout + done.stderr
