# SPDX-License-Identifier: Apache-2.0
"""Compute the Internet checksum (RFC 1071)."""

import struct


def ones_complement_sum(data: bytes) -> int:
    """Return the 16-bit ones' complement sum; of a packet with a right checksum in it, it is 0xffff."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    """Return the checksum of a packet whose checksum field is zero."""
    return ~ones_complement_sum(data) & 0xFFFF
