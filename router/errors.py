# SPDX-License-Identifier: Apache-2.0
"""Errors that the command line shows to the operator in one line."""


class RouterError(Exception):
    """Something the operator has to know or do; nothing was left half done."""
