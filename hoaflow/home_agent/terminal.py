# SPDX-License-Identifier: Apache-2.0
"""Show the binding cache and the Home Agents List as UMIP's terminal does."""

import math

from hoaflow.home_agent.cache import Binding, State
from hoaflow.mobility.terminal_server import unshortened


def render(binding: Binding, home_agent: str, link: str, tunnel: str, now: float, verbose: bool, fancy: bool) -> str:
    """Render one entry of the binding cache as UMIP does, with a line of our own for an IPv4 home address."""
    update, nonce = binding.update, " nonce 0" if verbose else ""
    underline, bold, plain = ("\x1b[1;4m", "\x1b[1m", "\x1b[0m") if fancy else ("", "", "")
    flags = "".join(
        letter if flag else "-"
        for letter, flag in zip(
            "AHLK",
            (update.acknowledge, update.home_registration, update.link_local, update.key_management),
            strict=True,
        )
    )
    networks = (prefix.split("/") for prefix in binding.mobile_networks)
    more = "".join(f" MNP: {unshortened(network)}/{length}\n" for network, length in networks)
    if binding.ipv4_home_address is not None:
        more += f" IPv4-HoA: {binding.ipv4_home_address}\n"
    left = str(math.floor(binding.due - now)) if binding.state is State.REGISTERED else "-"
    extra = f" tunnel {tunnel} link {link}" if verbose else ""
    # No Mobile Prefix Advertisements are sent here: show mpa as UMIP does before its first one.
    return (
        f"{underline}hoa {unshortened(binding.home_address)}{plain}{nonce}{bold} status {binding.state}{plain}\n"
        f" coa {unshortened(binding.care_of_address)}{nonce} flags {flags}\n"
        f" local {unshortened(home_agent)}{extra}\n"
        f" lifetime {left} / {binding.lifetime} seq {update.sequence} unreach 0 mpa - / 0 retry 0\n{more}"
    )


def render_home_agent(link: str, address: str, preference: int, left: float, fancy: bool) -> str:
    """Render one entry of the Home Agents List as UMIP does; `left` is what is left of its lifetime, in seconds."""
    underline, plain = ("\x1b[1;4m", "\x1b[0m") if fancy else ("", "")
    name = f"{underline}{unshortened(address)}{plain}"
    return f"{link} {name}\n preference {preference} lifetime {max(0, round(left))}\n"
