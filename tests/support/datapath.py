# SPDX-License-Identifier: Apache-2.0
"""The datapath, and with it the backend, of tests that run in both tiers: the kernel tier's tests have the kernel's."""

import os

from topologies.ovs_router import KERNEL, USER

IN_KERNEL_TIER = bool(os.environ.get("HOAFLOW_KERNEL_TIER"))
DATAPATH = KERNEL if IN_KERNEL_TIER else USER
BACKEND = "flow" if IN_KERNEL_TIER else "route"
