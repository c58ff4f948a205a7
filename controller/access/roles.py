# SPDX-License-Identifier: Apache-2.0
"""Model the API's callers and their rights."""

from dataclasses import dataclass
from enum import Enum

from hoaflow.addresses import Prefix, format_address
from hoaflow.errors import HoaflowError


class Role(Enum):
    """The role that a call needs and a token gives; `ADMIN` may make all calls, `ANYONE` needs no token."""

    ANYONE = "anyone"
    READ = "read"
    BRIDGE = "bridge"  # that of the home agent concerned
    ROUTER = "router"  # the agent on the router concerned
    MEMBER = "member"  # another controller of the cluster, which passes on what it has admitted itself
    ADMIN = "admin"


class Forbidden(HoaflowError):
    """A caller has no right to the value of `field`; `reason` says why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Caller:
    """The name and role of a caller's token.

    A bridge's token is for one home agent and the home prefixes in which that may have bindings, a router's for one
    datapath id.
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
        """Raise Forbidden for a home address or prefix outside this bridge's home prefixes."""
        if self.home_agent is not None and not any(home.contains(prefix) for home in self.home_prefixes):
            allowed = ", ".join(f"{format_address(home.packed)}/{home.length}" for home in self.home_prefixes)
            raise Forbidden(field, f"{prefix} lies outside the home prefixes of this token: {allowed}")

    def check_router(self, dpid: int) -> None:
        """Raise Forbidden for the router of another agent."""
        if self.router is not None and dpid != self.router:
            raise Forbidden("dpid", f"this token is for router {self.router:016x}")


# Without tokens, everybody on this host may make all calls.
LOCAL = Caller("local", Role.ADMIN)
ANONYMOUS = Caller("anonymous", Role.ANYONE)
