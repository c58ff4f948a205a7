# SPDX-License-Identifier: Apache-2.0
"""Measure one controller with many on-demand routers and many bindings: `make bench-scale`."""
