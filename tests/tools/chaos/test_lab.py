# SPDX-License-Identifier: Apache-2.0
"""What is taken for left over on a host."""

from tools.chaos.lab import namespaces


def test_a_namespace_that_was_made_again_is_not_left_over() -> None:
    assert namespaces("hoaflow-b (id: 9)\nhoaflow-a\n") == namespaces("hoaflow-a (id: 12)\nhoaflow-b (id: 11)\n")
    assert namespaces("hoaflow-a\n") != namespaces("")
