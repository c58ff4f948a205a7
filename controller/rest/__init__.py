# SPDX-License-Identifier: Apache-2.0
"""The northbound REST API, version 1: a WSGI application over the core."""
