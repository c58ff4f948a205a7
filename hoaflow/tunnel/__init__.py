# SPDX-License-Identifier: Apache-2.0
"""IP-in-IP tunnels (RFC 2473) in the Linux kernel, with the check against spoofed sources on the way back."""
