# SPDX-License-Identifier: Apache-2.0
"""Prepare an Open vSwitch router and keep its tunnels (`hoaflow-router`)."""
