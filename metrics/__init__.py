# SPDX-License-Identifier: Apache-2.0
"""Metrics of the parts that are no web server themselves: bridge and home agent serve them with ``--metrics``."""

from metrics.server import MetricsServer, add_option

__all__ = ["MetricsServer", "add_option"]
