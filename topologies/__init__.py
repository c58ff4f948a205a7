# SPDX-License-Identifier: Apache-2.0
"""Provide Mininet topologies and an emulated mobile node."""
