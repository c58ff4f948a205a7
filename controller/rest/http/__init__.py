# SPDX-License-Identifier: Apache-2.0
"""Serve HTTP below the API: eventlet's server, with the limits that it lacks."""
