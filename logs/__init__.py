# SPDX-License-Identifier: Apache-2.0
"""One line per event, the same way in every part: as ``key=value`` or as JSON, without subscribers' addresses.

Of the standard library alone, for each part brings it along.
"""

from logs.events import Log
from logs.lines import JsonFormatter, TextFormatter
from logs.options import LogSettings, add_options, set_up
from logs.privacy import AddressHider

__all__ = ["AddressHider", "JsonFormatter", "Log", "LogSettings", "TextFormatter", "add_options", "set_up"]
