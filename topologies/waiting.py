# SPDX-License-Identifier: Apache-2.0
"""Adapt limits of waiting to the machine: they are written for an ordinary one on which little else runs."""

import os

# `make test` sets this for its own load, topologies/guest.py for an emulated machine.
_FACTOR = float(os.environ.get("HOAFLOW_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """Return a limit in seconds, adapted to this machine."""
    return _FACTOR * seconds
