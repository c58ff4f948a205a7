# SPDX-License-Identifier: Apache-2.0
"""Run a small local mobility anchor (RFC 5213): `hoaflow-lma`."""
