# SPDX-License-Identifier: Apache-2.0
"""HTTP under the API: eventlet's server, with the limits that it does not set."""
