# SPDX-License-Identifier: Apache-2.0
"""Tests of what goes over the OpenFlow channel."""
