# SPDX-License-Identifier: Apache-2.0
"""Ping so that an answer counts as lost only when it is."""

import sys
from pathlib import Path

ECHO = Path(__file__).with_name("echo.py")


def ping(count: int, wait: float, *arguments: str) -> list[str]:
    """Return the command that sends `count` echo requests, 0.2 s apart; if none is answered, it waits `wait` seconds.

    Once one is answered, ping(8) of iputils waits for the last answer for two round trips or its interval only, in
    spite of -W: where handovers are to lose nothing, use `echo`. They are not sent at once (-l), for of three that open
    a connection in the kernel tier, now and then one was lost.
    """
    return ["ping", "-n", "-c", str(count), "-i", "0.2", "-W", f"{wait:g}", *arguments]


def echo(count: int, address: str) -> list[str]:
    """Return the command that prints how many of `count` echo requests to an IPv6 address were answered, also late.

    A request waits for the answer to the one before. Else the first ones, which Open vSwitch holds while it looks for
    their flow, come to the mobile node together: an emulated kernel with two processors then answered only one of two.
    """
    return [sys.executable, str(ECHO), str(count), address]
