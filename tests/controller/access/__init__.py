# SPDX-License-Identifier: Apache-2.0
"""Tests of who may call what, and how often."""
