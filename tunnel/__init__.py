# SPDX-License-Identifier: Apache-2.0
"""IP-in-IP tunnels (RFC 2473) in the Linux kernel, as router and home agent need them."""
