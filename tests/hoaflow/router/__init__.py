# SPDX-License-Identifier: Apache-2.0
"""Tests of a router's endpoint and agent."""
