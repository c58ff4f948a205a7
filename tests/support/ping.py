# SPDX-License-Identifier: Apache-2.0
"""Ping so that an answer counts as lost only when it is."""


def ping(count: int, wait: float, *arguments: str) -> list[str]:
    """Return the command that sends `count` echo requests at once and waits up to `wait` seconds for their answers.

    Where an answer has come before the last request is sent, ping(8) of iputils waits no longer than two round trips or
    the interval between requests, in spite of -W: with 20 ms between them, a last answer that a busy machine delayed by
    more was reported as lost. At once (-l), all requests are sent before an answer is read.
    """
    return ["ping", "-n", "-c", str(count), "-l", str(count), "-W", f"{wait:g}", *arguments]
