# SPDX-License-Identifier: Apache-2.0
"""Start what tests of the core start from."""

import pytest

from tests.support.world import World, established


@pytest.fixture
def world() -> World:
    """Start everything, with a mobile node registered on the first foreign link whose traffic goes direct."""
    return established()
