# SPDX-License-Identifier: Apache-2.0
"""Send a packet by OpenFlow's packet-out, with ovs-ofctl(8)."""

import os
import subprocess

from hoaflow.router.errors import RouterError

TIMEOUT = 5.0  # seconds


def packet_out(bridge: str, db: str | None, packet: bytes, actions: str) -> None:
    """Have a bridge carry out `actions` on an Ethernet frame. Raises RouterError.

    `db`: its Open vSwitch database, as for `ovs-vsctl --db`; None for the system's.
    """
    target = bridge
    if db is not None and db.startswith("unix:"):
        # The bridge's management socket lies beside the database's.
        target = f"unix:{os.path.dirname(db.removeprefix('unix:'))}/{bridge}.mgmt"
    message = f"in_port=CONTROLLER,packet={packet.hex()},actions={actions}"
    command = ["ovs-ofctl", "-O", "OpenFlow13", f"--timeout={TIMEOUT:g}", "packet-out", target, message]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT + 5, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise RouterError(f"no packet could be sent through bridge {bridge}: {error}") from error
    if done.returncode != 0:
        raise RouterError(f"no packet could be sent through bridge {bridge}: {' '.join(done.stderr.split())}")
