# SPDX-License-Identifier: Apache-2.0
"""Sequence numbers are ordered modulo 2**16 (RFC 6275 section 9.5.1)."""

from hypothesis import given
from hypothesis import strategies as st

from hoaflow.sequence import is_newer, next_sequence

sequences = st.integers(0, 0xFFFF)


@given(sequences, sequences)
def test_the_next_32767_sequence_numbers_are_newer(last: int, step: int) -> None:
    assert is_newer((last + step) % 0x10000, than=last) == (1 <= step <= 0x7FFF)


@given(sequences)
def test_the_next_sequence_number_is_newer_and_fits_the_field(sequence: int) -> None:
    following = next_sequence(sequence)
    assert is_newer(following, sequence)
    assert 0 <= following <= 0xFFFF
