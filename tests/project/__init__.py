# SPDX-License-Identifier: Apache-2.0
"""Tests of the project itself: documentation, layers, packaging, scripts, and the tests' own tools."""
