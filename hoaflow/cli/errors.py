# SPDX-License-Identifier: Apache-2.0
"""Define the exit statuses and errors of commands. Scripts may rely on the numbers."""

from enum import IntEnum

from hoaflow.errors import HoaflowError


class Status(IntEnum):
    """The exit statuses of all commands."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNAUTHORISED = 4
    UNHEALTHY = 5
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it
    BROKEN_PIPE = 141  # 128 + SIGPIPE


class CliError(HoaflowError):
    """A command has failed; the message says what was expected, what came and what to do."""

    status = Status.FAILED


class WrongUsage(CliError):
    """An argument does not have the expected form."""

    status = Status.USAGE


class Unreachable(CliError):
    """There was no connection, no answer in time, or no controller at the other end."""

    status = Status.UNREACHABLE


class Unauthorised(CliError):
    """The controller answered 401 or 403."""

    status = Status.UNAUTHORISED


class Unhealthy(CliError):
    """Something is wrong with the controller, or a switch behind it."""

    status = Status.UNHEALTHY
