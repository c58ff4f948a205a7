# SPDX-License-Identifier: Apache-2.0
"""Measure a cluster of controllers while its parts die: `make bench-cluster`."""
