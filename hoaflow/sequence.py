# SPDX-License-Identifier: Apache-2.0
"""Order the sequence numbers of Binding Updates (RFC 6275 section 9.5.1)."""

SEQUENCE_SPACE = 1 << 16


def is_newer(candidate: int, than: int, space: int = SEQUENCE_SPACE) -> bool:
    """Tell whether a sequence number is greater than another, modulo `space`.

    The numbers up to half the space after `than` are newer: of 2**16, 32767.

    >>> is_newer(0, than=0xFFFF), is_newer(7, than=7), is_newer(0x8000, than=0)
    (True, False, False)
    """
    return 0 < (candidate - than) % space < space // 2


def next_sequence(sequence: int) -> int:
    """Return the sequence number after this one."""
    return (sequence + 1) % SEQUENCE_SPACE
