# SPDX-License-Identifier: Apache-2.0
"""Assign the benchmark's TCP ports, all on 127.0.0.1 in its own network namespace."""

OPENFLOW = 6653
REST = 8080
REFERENCE_OPENFLOW = 6654  # where the baselines' bridge seeks its controller
REFERENCE_REST = 8081
BARE_TRIGGER = 6690
NULL_SERVER = 8082
