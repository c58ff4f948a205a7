# SPDX-License-Identifier: Apache-2.0
"""Declare the calls' queries: one struct each. An absent parameter is UNSET, as text has no null."""

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from werkzeug.datastructures import MultiDict

from controller.rest.problems import wrong_field
from controller.rest.schemas.decoding import split_error
from controller.rest.schemas.fields import FlowKind, HomeAddress, IpAddress, ProtocolName, Revision

LARGEST_LIMIT = 1000
# Seconds that an agent's long poll may hold a connection.
LONGEST_POLL = 30

Limit = Annotated[int, Meta(description="Most items on the page.", ge=1, le=LARGEST_LIMIT)]
EventNumber = Annotated[int, Meta(ge=0, lt=10**18)]

T = TypeVar("T")


class PageQuery(Struct, forbid_unknown_fields=True):
    """Choose a page of a list."""

    limit: Limit = 100
    cursor: Annotated[str, Meta(description="`next` of the page before.")] | UnsetType = UNSET


class BindingsQuery(PageQuery):
    """Choose the bindings to list."""

    home_address: Annotated[HomeAddress, Meta(description="For a prefix, all that lie in it.")] | UnsetType = UNSET
    home_agent: IpAddress | UnsetType = UNSET
    care_of_address: IpAddress | UnsetType = UNSET
    protocol: ProtocolName | UnsetType = UNSET
    state: Literal["pending", "active", "partial", "idle", "held", "withheld"] | UnsetType = UNSET


class BindingQuery(Struct, forbid_unknown_fields=True):
    """Choose the binding of a home address."""

    protocol: (
        Annotated[ProtocolName, Meta(description="By default that of the binding that takes the packets.")] | UnsetType
    ) = UNSET


class HomeAgentsQuery(PageQuery):
    """Choose the home agents to list."""

    status: Literal["up", "ha-down", "expired"] | UnsetType = UNSET


class RoutersQuery(PageQuery):
    """Choose the routers to list."""

    connected: Literal["yes", "no"] | UnsetType = UNSET
    draining: Literal["yes", "no"] | UnsetType = UNSET


class FlowsQuery(PageQuery):
    """Choose the flows of a router to list."""

    kind: FlowKind | UnsetType = UNSET
    home_address: HomeAddress | UnsetType = UNSET


class ClusterQuery(Struct, forbid_unknown_fields=True):
    """Choose whether to have the routers, of which there may be thousands."""

    routers: Literal["yes", "no"] = "yes"


class PostQuery(Struct, forbid_unknown_fields=True):
    """Choose when to answer a report."""

    wait: (
        Annotated[
            Literal["active"],
            Meta(description="Answer when the switches have confirmed; 202 if they have not within `request_timeout`."),
        ]
        | UnsetType
    ) = UNSET


class DifferenceQuery(Struct, forbid_unknown_fields=True):
    """Limit the difference to show."""

    limit: Annotated[int, Meta(description="Most flows of each kind.", ge=1, le=LARGEST_LIMIT)] = LARGEST_LIMIT


class TunnelsQuery(Struct, forbid_unknown_fields=True):
    """Choose the revision to go on after, and the time to wait for changes."""

    after: Revision = 0
    wait: Annotated[int, Meta(description=f"Seconds, {LONGEST_POLL} at the most.", ge=0, lt=10**18)] = 0


class EventsQuery(Struct, forbid_unknown_fields=True):
    """Choose the events to show, where to begin, and whether to follow."""

    name: Annotated[str, Meta(description="Names of events, separated by commas.")] | UnsetType = UNSET
    follow: Literal["yes", "no"] = "yes"
    after: (
        Annotated[EventNumber, Meta(description="The event to go on after; 0 for all in the buffer.")] | UnsetType
    ) = UNSET
    limit: Limit = 100
    cursor: Annotated[EventNumber, Meta(description="`next` of the page before.")] | UnsetType = UNSET


def decode_query(query: MultiDict[str, str], type_: type[T]) -> T:
    """Return a query as a struct. Raises Problem: 422 for an unknown parameter, one given twice, or a wrong value."""
    for name, values in query.lists():
        if len(values) > 1:
            raise wrong_field(name[:40], f"expected one value, got {len(values)}")
    try:
        return msgspec.convert(query.to_dict(), type_, strict=False)
    except msgspec.ValidationError as error:
        raise wrong_field(*split_error(error)) from None
