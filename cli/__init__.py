# SPDX-License-Identifier: Apache-2.0
"""The command line ``hoaflow``: asks a controller's REST API, and says it in words or in JSON."""
