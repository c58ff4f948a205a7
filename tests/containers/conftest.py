# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests with containers: one engine and one system for all of them."""

from collections.abc import Iterator

import pytest

from tests.containers.engine import Engine, NoEngineError, running_engine
from tests.containers.system import System, build_image, running_system


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Provide a container engine; without one, skip the tests and say why (see tests/support/skips.py)."""
    try:
        with running_engine(build_image) as found:
            yield found
    except NoEngineError as error:
        pytest.skip(f"NO CONTAINER TESTS: {error}")


@pytest.fixture(scope="session")
def system(engine: Engine) -> Iterator[System]:
    """Provide the system of docker-compose.yml, up."""
    with running_system(engine) as running:
        for service in ("controller", "ha", "home-agent", "bridge", "r1", "r2", "cn", "mn"):
            running.wait_healthy(service)
        yield running
