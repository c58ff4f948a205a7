# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router`: prepares a router host for the `route` backend and keeps its encapsulation routes."""
