# SPDX-License-Identifier: Apache-2.0
"""Offloads Mobile IPv6 data traffic from the home agent with OpenFlow.

The modules directly below this package are shared by all parts and need only the standard library. Those that
`controller.core` imports are pure: no clock, no randomness of their own, no I/O.
"""
