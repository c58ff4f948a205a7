# SPDX-License-Identifier: Apache-2.0
"""Real-time priorities: what else runs on the machine, and what merely starts, shall not show in the figures."""

import contextlib
import os

NETWORK = 2  # Open vSwitch, links, traffic, mobile node and home agent: they are what is measured
HOAFLOW = 1  # starting its programs takes seconds of processor time, which the network must not wait for


def take(priority: int) -> None:
    """Give this thread, and what it starts from now on, the real-time PRIORITY, where that is permitted."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
