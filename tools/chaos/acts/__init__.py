# SPDX-License-Identifier: Apache-2.0
"""Do to a running system what faults do. Each act takes the lab and its target's name."""

from collections.abc import Callable

from tools.chaos.lab import Lab

Act = Callable[[Lab, str], None]


def nothing(lab: Lab, target: str) -> None:
    """Do nothing: the fault is over by itself."""
