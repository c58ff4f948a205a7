# SPDX-License-Identifier: Apache-2.0
"""Have only one program of ours tunnel in a network namespace: they share routing rules, tables and nftables names."""

import errno
import socket

LOCK = b"\0hoaflow-ha"
"""Name of an abstract Unix domain socket. Such names belong to a network namespace and vanish with their owner."""


def lock_namespace() -> socket.socket:
    """Lock the current network namespace until the socket is closed, or raise OSError if another one has it.

    Another program of ours would remove our kernel state as leftovers.
    """
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(LOCK)
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        programs = "hoaflow-ha, hoaflow-fa, hoaflow-lma or hoaflow-mag"
        raise OSError(f"a {programs} runs in this network namespace already; stop that one first") from error
    return lock
