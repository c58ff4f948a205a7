# SPDX-License-Identifier: Apache-2.0
"""What several members say of a binding, put together."""

import pytest

from controller.cluster.view import RouterMaster, View
from controller.core.binding_states import State
from controller.rest.merging import Word, merged_binding
from controller.rest.schemas import answers

MASTERS = {number: RouterMaster(member, 1, 0.0, "") for number, member in ((1, "a"), (2, "b"))}
WORD = Word(View("c", "a", {}, MASTERS), {})
ROUTERS = {"a": "0000000000000001", "b": "0000000000000002"}


def said(member: str, state: State) -> answers.Binding:
    """Return what a member says of a binding in brief, without on-demand routers that see none of its packets."""
    on_router = {ROUTERS[member]: answers.BindingOnRouter("active", 1, 100)} if state == "active" else {}
    addresses = "2001:db8:99::100", "2001:db8:2::2", "2001:db8:99::1"
    return answers.Binding(*addresses, 60, 1, 60.0, state, on_router, None)


@pytest.mark.parametrize(
    ("states", "together"),
    [(("idle", "idle"), "idle"), (("idle", "active"), "active"), (("pending", "pending"), "pending")],
)
def test_routers_that_are_left_out_as_they_see_no_packets_count_as_idle(
    states: tuple[State, State], together: State
) -> None:
    merged = merged_binding(dict(zip("ab", map(said, "ab", states), strict=True)), [], WORD)
    assert merged.state == together
