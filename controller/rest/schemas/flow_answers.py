# SPDX-License-Identifier: Apache-2.0
"""Declare the answers about flows: those of a switch, and what differs from the flows that it should have.

Addresses are in RFC 5952 form, times are seconds from now.
"""

from typing import Annotated

from msgspec import Meta, Struct

from controller.rest.schemas.fields import Count, Cursor, FlowKind, HomeAddress, SecondsLeft


class DesiredFlow(Struct):
    """A flow of the controller; `serves` is the address or prefix whose traffic it carries."""

    table: str
    priority: Count
    kind: FlowKind
    flow: Annotated[str, Meta(description="The flow as `ovs-ofctl` writes it, with names for tables.")]
    cookie: Annotated[str, Meta(pattern="^0x[0-9a-f]+$")]
    expires_in: SecondsLeft | None
    serves: HomeAddress | None
    home_addresses: list[HomeAddress]


class Flow(DesiredFlow):
    """A flow of the controller on a switch."""

    packets: Count
    bytes: Count


class Flows(Struct):
    """Flows, by page."""

    flows: list[Flow]
    next: Cursor


class MissingFlow(DesiredFlow):
    """A flow that the switch lacks; `reason` says why it is not sent, null if it is."""

    reason: str | None


class UnexpectedFlow(Flow):
    """A flow of the controller that the switch should not have; `reason` says why it stays, null if it goes."""

    reason: str | None


class DifferentFlow(Struct):
    """A flow that differs in its actions, or would stay too long."""

    desired: DesiredFlow
    installed: Flow


class DifferenceTotals(Struct):
    """The numbers of flows that differ, listed or not."""

    missing: Count
    unexpected: Count
    different: Count


class Difference(Struct):
    """The difference between the flows that a switch should have and those that it has."""

    in_sync: bool
    missing: list[MissingFlow]
    unexpected: list[UnexpectedFlow]
    different: list[DifferentFlow]
    totals: DifferenceTotals
