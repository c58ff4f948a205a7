# SPDX-License-Identifier: Apache-2.0
"""Towards the switches: the OpenFlow encoding of flows, and the exchange with each switch."""
