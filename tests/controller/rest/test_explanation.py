# SPDX-License-Identifier: Apache-2.0
"""How the API words an explanation's remedies."""

from controller.core.reasons import Step
from controller.rest.views.explanation import COMMANDS


def test_each_step_that_an_operator_can_take_has_a_command() -> None:
    assert set(COMMANDS) == set(Step)
