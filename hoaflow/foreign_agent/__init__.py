# SPDX-License-Identifier: Apache-2.0
"""Run a small foreign agent of Mobile IPv4 (RFC 5944): `hoaflow-fa`."""
