# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a mobile node roams while its traffic leaves the home agent."""
