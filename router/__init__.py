# SPDX-License-Identifier: Apache-2.0
"""Prepares a router host for the route backend, and keeps its encapsulation routes."""
