# SPDX-License-Identifier: Apache-2.0
"""Tests of the kernel's IP-in-IP."""
