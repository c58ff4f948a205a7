# SPDX-License-Identifier: Apache-2.0
"""Run a small mobile access gateway (RFC 5213): `hoaflow-mag`."""
