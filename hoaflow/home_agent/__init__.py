# SPDX-License-Identifier: Apache-2.0
"""A small home agent (RFC 6275), the embedded default where no other one runs."""
