# SPDX-License-Identifier: Apache-2.0
"""Show entries as the console of OAI PMIPv6 does (command `pmip`)."""

import math

from hoaflow.mobility.terminal_server import Listing, unshortened

ACCESS_GATEWAY, ANCHOR = "Serv_MAG_addr", "LMA_addr"
"""What the other end is called: at an anchor, and at an access gateway."""


def listings(pmip: Listing) -> dict[str, Listing]:
    """Return the console's commands. The one for Mobile IPv6's bindings is there, as in OAI's, and has none to show."""
    return {"bc": lambda _verbose, _fancy: iter(()), "pmip": pmip}


def render(
    address: str,
    registered: bool,
    role: str,
    peer: str,
    local: str,
    left: float,
    lifetime: int,
    sequence: int,
    fancy: bool,
) -> str:
    """Render one entry. `address`: the mobile node's; `role`: of the `peer`; `left`: seconds of the lifetime."""
    underline, bold, plain = ("\x1b[1;4m", "\x1b[1m", "\x1b[0m") if fancy else ("", "", "")
    status = "PMIP" if registered else "TEMP"
    return (
        f"{underline}peer_addr {unshortened(address)}{plain}{bold} status {status}{plain}\n"
        f" {role} {unshortened(peer)} local {unshortened(local)}\n"
        f" lifetime {max(0, math.floor(left))} / {lifetime} seq {sequence}\n"
    )
