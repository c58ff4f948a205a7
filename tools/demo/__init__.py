# SPDX-License-Identifier: Apache-2.0
"""Demonstrate hoaflow: a mobile node roams while its traffic leaves the home agent."""
