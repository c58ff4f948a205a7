# SPDX-License-Identifier: Apache-2.0
"""Share among all clients of the REST API: token, certificates, timeouts, and errors in plain words."""
