# SPDX-License-Identifier: Apache-2.0
"""Who calls the API, and what they may do."""

from dataclasses import dataclass
from enum import Enum

from hoaflow.addresses import Prefix, format_address
from hoaflow.errors import HoaflowError


class Role(Enum):
    """What a call needs and what a token gives; ``ADMIN`` may make all calls, ``ANYONE`` needs no token."""

    ANYONE = "anyone"
    READ = "read"
    BRIDGE = "bridge"  # that of the home agent concerned
    ROUTER = "router"  # the agent on the router concerned
    ADMIN = "admin"


class Forbidden(HoaflowError):
    """A caller may not do what ``field`` of the request asks; ``reason`` says why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the name and the role of a token.

    The token of a bridge is for one home agent and the home prefixes in which that may have bindings, the token of a
    router for one datapath id.
    """

    name: str
    role: Role
    home_agent: bytes | None = None
    home_prefixes: tuple[Prefix, ...] = ()
    router: int | None = None

    def check_home_agent(self, address: bytes, field: str = "home_agent") -> None:
        """Raise Forbidden for the home agent of another bridge."""
        if self.home_agent is not None and address != self.home_agent:
            raise Forbidden(field, f"this token is for home agent {format_address(self.home_agent)}")

    def check_home_address(self, prefix: Prefix, field: str = "home_address") -> None:
        """Raise Forbidden for a home address or a prefix outside of this bridge's home prefixes."""
        if self.home_agent is not None and not any(home.contains(prefix) for home in self.home_prefixes):
            allowed = ", ".join(f"{format_address(home.packed)}/{home.length}" for home in self.home_prefixes)
            raise Forbidden(field, f"{prefix} lies outside of what this token is for: {allowed}")

    def check_router(self, dpid: int) -> None:
        """Raise Forbidden for the router of another agent."""
        if self.router is not None and dpid != self.router:
            raise Forbidden("dpid", f"this token is for router {self.router:016x}")


# Without tokens, whoever is on this host may do everything.
LOCAL = Caller("local", Role.ADMIN)
ANONYMOUS = Caller("anonymous", Role.ANYONE)
