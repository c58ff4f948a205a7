# SPDX-License-Identifier: Apache-2.0
"""Serve the metrics of parts that are not web servers themselves, bridge and home agent, with `--metrics`."""

from hoaflow.metrics.server import MetricsServer, add_option

__all__ = ["MetricsServer", "add_option"]
