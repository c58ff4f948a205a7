# SPDX-License-Identifier: Apache-2.0
"""Tests of hoaflow.local_mobility_anchor."""
