# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of the REST API in this process."""

import pytest

from tests.support.rest_api import Api


@pytest.fixture
def api() -> Api:
    """Provide an API that one home agent is announced to."""
    api = Api()
    assert api.announce().status_code == 200
    return api
