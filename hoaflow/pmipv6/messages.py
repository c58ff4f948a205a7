# SPDX-License-Identifier: Apache-2.0
"""Represent the messages between access gateway and anchor without their wire format (RFC 5213, 5846, 5847, 6602).

Addresses and prefixes are RFC 5952 strings, lifetimes seconds. A timestamp is the option's value: 1/65536 s since 1970.
"""

from dataclasses import dataclass
from enum import IntEnum

from hoaflow.mobility.messages import MnHaAuthentication

TIMESTAMP_UNITS = 1 << 16
"""Of a timestamp, in a second."""
ANY_PREFIX = "::/0"
"""Asks the anchor for the mobile node's prefixes."""
ANY_ADDRESS = "::"


class Status(IntEnum):
    """Status of a Proxy Binding Acknowledgement (RFC 5213, section 8.9; RFC 6275, 6.1.8); 128 and above: refused."""

    ACCEPTED = 0
    REASON_UNSPECIFIED = 128
    INSUFFICIENT_RESOURCES = 130
    NOT_LMA_FOR_THIS_MOBILE_NODE = 153
    NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX = 155
    TIMESTAMP_MISMATCH = 156
    TIMESTAMP_LOWER_THAN_PREVIOUS = 157
    MISSING_HOME_NETWORK_PREFIX = 158
    PREFIX_SET_DOES_NOT_MATCH = 159
    MISSING_IDENTIFIER = 160
    MISSING_HANDOFF_INDICATOR = 161
    MISSING_ACCESS_TECHNOLOGY_TYPE = 162
    INVALID_MOBILE_NODE_GROUP_IDENTIFIER = 175


class Handoff(IntEnum):
    """Why an access gateway registers (RFC 5213, section 8.4)."""

    NEW_INTERFACE = 1
    BETWEEN_INTERFACES = 2
    BETWEEN_GATEWAYS = 3
    UNKNOWN = 4
    NOT_CHANGED = 5


class Trigger(IntEnum):
    """Why a binding is revoked (RFC 5846, section 5.1)."""

    UNSPECIFIED = 0
    ADMINISTRATIVE = 1
    HANDOVER = 2
    PER_PEER_POLICY = 128


class RevocationStatus(IntEnum):
    """Answer to a revocation (RFC 5846, section 5.2)."""

    SUCCESS = 0
    NO_BINDING = 128
    EVERYTHING_NOT_AUTHORIZED = 130


@dataclass(frozen=True, slots=True)
class ProxyBindingUpdate:
    """A Proxy Binding Update from `source`, the Proxy-CoA. None and empty are what it lacks.

    `group`: that of the binding (flag B, RFC 6602); without an identifier, the one that the update is for.
    """

    source: str
    destination: str
    sequence: int
    lifetime: int
    identifier: str = ""
    prefixes: tuple[str, ...] = ()
    handoff: int | None = None
    access_technology: int | None = None
    link_layer: bytes = b""
    link_local: str | None = None
    timestamp: int | None = None
    group: int | None = None
    authentication: MnHaAuthentication | None = None


@dataclass(frozen=True, slots=True)
class ProxyBindingAcknowledgement:
    """A Proxy Binding Acknowledgement, with the options of the update that it answers."""

    source: str
    destination: str
    sequence: int
    status: int
    lifetime: int
    identifier: str = ""
    prefixes: tuple[str, ...] = ()
    handoff: int | None = None
    access_technology: int | None = None
    link_layer: bytes = b""
    link_local: str | None = None
    timestamp: int | None = None
    group: int | None = None
    authentication: MnHaAuthentication | None = None

    @property
    def accepted(self) -> bool:
        """Whether the registration was accepted."""
        return self.status < Status.REASON_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A heartbeat request or response; a response has the restart counter. `unsolicited`: the sender has restarted."""

    source: str
    destination: str
    sequence: int
    response: bool = False
    unsolicited: bool = False
    restart_counter: int | None = None
    timestamp: int | None = None
    authentication: MnHaAuthentication | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """A Binding Revocation Indication for one mobile node, or with `everything` (flag G) for all of its sender."""

    source: str
    destination: str
    sequence: int
    trigger: int
    identifier: str = ""
    prefixes: tuple[str, ...] = ()
    everything: bool = False
    timestamp: int | None = None
    authentication: MnHaAuthentication | None = None

    def answer(self, status: RevocationStatus, timestamp: int) -> "RevocationAcknowledgement":
        """Return its acknowledgement."""
        ends = (self.destination, self.source, self.sequence)
        return RevocationAcknowledgement(*ends, status, self.identifier, self.everything, timestamp)


@dataclass(frozen=True, slots=True)
class RevocationAcknowledgement:
    """A Binding Revocation Acknowledgement."""

    source: str
    destination: str
    sequence: int
    status: int
    identifier: str = ""
    everything: bool = False
    timestamp: int | None = None
    authentication: MnHaAuthentication | None = None


Message = ProxyBindingUpdate | ProxyBindingAcknowledgement | Heartbeat | Revocation | RevocationAcknowledgement


def timestamp_of(seconds: float) -> int:
    """Return the timestamp of a time in seconds since 1970."""
    return int(seconds * TIMESTAMP_UNITS)
