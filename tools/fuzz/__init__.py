# SPDX-License-Identifier: Apache-2.0
"""Fuzz whatever reads bytes that hoaflow has not written itself: see docs/fuzzing.md."""
