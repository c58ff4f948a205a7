# SPDX-License-Identifier: Apache-2.0
"""When a main loop ends."""

import contextlib

import pytest

from hoaflow.mobility.loop import Loop

pytestmark = pytest.mark.unit


def test_a_second_signal_while_all_is_undone_interrupts_nothing() -> None:
    """As Ctrl-C pressed twice, or the SIGTERM of a container's engine after that of its init."""
    with contextlib.closing(Loop()) as loop:

        def turn(now: float) -> float:
            loop.stop()
            return now

        loop.run(turn)
        loop.stop()
