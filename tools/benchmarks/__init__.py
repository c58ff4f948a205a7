# SPDX-License-Identifier: Apache-2.0
"""Measure hoaflow's speed: `make bench` for the controller, `make bench-dataplane` for packets."""
