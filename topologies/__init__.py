# SPDX-License-Identifier: Apache-2.0
"""Mininet topologies and the emulated mobile node."""
