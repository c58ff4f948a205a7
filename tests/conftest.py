# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests. An error in any log that a test did not announce fails it."""

import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path

# Import this before anything that imports werkzeug. Otherwise eventlet.wsgi makes the threads of the standard library's
# servers green, and the tests' own servers hang.
import eventlet.wsgi  # noqa: F401
import pytest
from hypothesis import configuration, settings

from hoaflow.logs.events import ROOT
from tests.support import needs
from tests.support.logs import ErrorRecords
from tests.support.ovs import Ovs
from tests.support.signals import end_in_order
from tests.support.skips import why_not_skipped

# The kernel tier needs a kernel with Open vSwitch's datapath: `make test-kernel` runs it where there is one.
collect_ignore = [] if os.environ.get("HOAFLOW_KERNEL_TIER") else ["kernel"]
# Containers need an engine and an image: `make test-compose` sees to both.
collect_ignore += [] if os.environ.get("HOAFLOW_CONTAINERS") else ["containers"]

# All output of a run is in build/.
OUTPUT = Path(__file__).parents[1] / "build"
OUTPUT = OUTPUT if os.access(OUTPUT, os.W_OK) else OUTPUT / "unit"  # as `make unit` where root calls it
configuration.set_hypothesis_home_dir(OUTPUT / "hypothesis")

# Tests assert no timing: an example may take as long as a busy machine makes it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# For `make unit`, which is run after each change: fewer examples of each property.
settings.register_profile("unit", deadline=None, max_examples=20)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and have signals end the run in order."""
    end_in_order()
    config.addinivalue_line(
        "markers", "expected_log(regex, ...): errors this test causes on purpose, as `logger: LEVEL: message`"
    )
    config.addinivalue_line(
        "markers", "expected_ovs_log(regex, ...): errors that Open vSwitch logs in this test on purpose"
    )
    config.addinivalue_line("markers", "programs: starts programs through the code under test: no unit test")
    config.addinivalue_line("markers", "unit: needs nothing but this process; given by tests/support/needs.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark unit tests, before any are chosen by marker."""
    needs.mark_unit_tests(items)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have a unit test fail if it starts a program."""
    needs.watch(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that is skipped where it may not be."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that is skipped as a whole where it may not be."""
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if (wrong := why_not_skipped(report.nodeid, reason)) is not None:
            report.outcome, report.longrepr = "failed", wrong


def _expected(request: pytest.FixtureRequest, marker: str) -> list[str]:
    return [pattern for mark in request.node.iter_markers(marker) for pattern in mark.args]


@pytest.fixture(autouse=True)
def logged_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that logs something at ERROR or above, unless `expected_log` announces it."""
    handler = ErrorRecords(_expected(request, "expected_log"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
    assert not handler.unexpected, "unexpected errors logged:\n" + "\n".join(handler.unexpected)


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Log at the programs' default level in each test, whatever has been set before in the same process."""
    root = logging.getLogger(ROOT)
    before = root.level
    root.setLevel(logging.INFO)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(f"{ROOT}."):
            # Mininet, once imported, gives each new logger a level of its own.
            logging.getLogger(name).setLevel(logging.NOTSET)
    try:
        yield
    finally:
        root.setLevel(before)


@pytest.fixture
def ovs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ovs]:
    """Provide a running Open vSwitch of its own, with no bridge yet. Its logs must be free of errors in the end."""
    directory = tmp_path / "ovs"
    directory.mkdir()
    with Ovs(directory) as running:
        yield running
    running.assert_log_clean(_expected(request, "expected_ovs_log"))
