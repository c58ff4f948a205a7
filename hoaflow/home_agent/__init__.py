# SPDX-License-Identifier: Apache-2.0
"""Run a small home agent (RFC 6275) where there is no other one."""
