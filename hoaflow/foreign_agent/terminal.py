# SPDX-License-Identifier: Apache-2.0
"""Show the visitor list in the form of UMIP's terminal."""

import math

from hoaflow.foreign_agent.visitors import Visitor


def render(visitor: Visitor, care_of_address: str, now: float, fancy: bool) -> str:
    """Render one visitor; `-` is the remaining lifetime of what does not end."""
    underline, bold, plain = ("\x1b[1;4m", "\x1b[1m", "\x1b[0m") if fancy else ("", "", "")
    left = "-" if visitor.endless else str(max(0, math.floor(visitor.due - now)))
    tunnel = "both ways" if visitor.reverse_tunnel else "from the home agent"
    return (
        f"{underline}hoa {visitor.home_address}{plain}{bold} ha {visitor.home_agent}{plain}\n"
        f" coa {care_of_address} link {visitor.station.link} mac {visitor.station.mac.hex(':')}\n"
        f" tunnel {tunnel}\n"
        f" lifetime {left} / {visitor.lifetime} seq {visitor.visit.request.identification}\n"
    )
