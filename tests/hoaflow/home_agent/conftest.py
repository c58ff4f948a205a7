# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the home agent's tests."""

from collections.abc import Iterator

import pytest

from tests.support.mobility import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as built:
        yield built
