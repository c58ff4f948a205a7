# SPDX-License-Identifier: Apache-2.0
"""Tests that need a kernel with Open vSwitch's datapath and ip6_tunnel.

`make test-kernel` runs them: on this host's kernel if that has both, else on Debian's stock kernel under emulation (see
topologies/guest.py).
"""
