# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the kernel tier."""

from collections.abc import Iterator

import pytest

from hoaflow.router.flow.kernel import features
from tests.kernel.lab import FlowLab
from tests.support.ovs import Ovs


def pytest_sessionstart() -> None:
    """Fail at once, and say why, on a kernel that cannot run any of this."""
    missing = [f"{feature.what}: {feature.problem}" for feature in features() if feature.problem]
    if missing:
        pytest.exit("this kernel cannot run the kernel tier; `make test-kernel` finds one. " + "; ".join(missing), 4)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowLab]:
    """Provide the network of tests.kernel.lab for all tests, without backend and offload: making it is slow."""
    with Ovs(tmp_path_factory.mktemp("ovs"), datapath="system") as switch:
        with FlowLab(switch) as running:
            yield running
        switch.assert_log_clean()
