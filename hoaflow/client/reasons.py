# SPDX-License-Identifier: Apache-2.0
"""Say in one line why a call by `requests` has failed."""


def innermost(error: BaseException) -> BaseException:
    """Return the innermost of requests' and urllib3's nested errors, which repeat each other."""
    while True:
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((part for part in error.args if isinstance(part, BaseException)), None)
        if inner is None:
            return error
        error = inner


def root_reason(error: BaseException) -> str:
    """Return the message of the innermost error."""
    error = innermost(error)
    text = str(error) or type(error).__name__
    # urllib3 begins with the connection's name, which tells no more than the URL does.
    return text.partition("): ")[2] if text.startswith("HTTP") and "): " in text else text
