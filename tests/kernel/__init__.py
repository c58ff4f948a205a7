# SPDX-License-Identifier: Apache-2.0
"""Tests that need a kernel with Open vSwitch's datapath and ip6_tunnel: `make test-kernel` runs them, in place where
this host's kernel has both, else on Debian's stock kernel under emulation (see topologies/guest.py).
"""
