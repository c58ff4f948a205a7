# SPDX-License-Identifier: Apache-2.0
"""Share what the two ends of Proxy Mobile IPv6 have in common, the anchor and the access gateway (RFC 5213)."""
