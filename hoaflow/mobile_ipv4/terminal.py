# SPDX-License-Identifier: Apache-2.0
"""Show the binding cache in the words and the form of UMIP's terminal."""

import math

from hoaflow.mobile_ipv4.cache import Binding, State
from hoaflow.mobile_ipv4.messages import LETTERS


def render(binding: Binding, home_agent: str, now: float, fancy: bool) -> str:
    """Render one entry: `seq` is the identification, and `-` the remaining lifetime of what does not end."""
    underline, bold, plain = ("\x1b[1;4m", "\x1b[1m", "\x1b[0m") if fancy else ("", "", "")
    flags = "".join(letter if flag in binding.request.flags else "-" for flag, letter in LETTERS.items())
    ends = binding.state is State.REGISTERED and not binding.endless
    left = str(math.floor(binding.due - now)) if ends else "-"
    return (
        f"{underline}hoa {binding.home_address}{plain}{bold} status {binding.state}{plain}\n"
        f" coa {binding.care_of_address} flags {flags}\n"
        f" local {home_agent}\n"
        f" lifetime {left} / {binding.lifetime} seq {binding.request.identification}\n"
    )
