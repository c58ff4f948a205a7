# SPDX-License-Identifier: Apache-2.0
"""Log one line per event, the same way in every part: as `key=value` or JSON, without subscribers' addresses.

It needs only the standard library, as every part contains it.
"""

from hoaflow.logs.events import Log
from hoaflow.logs.lines import JsonFormatter, TextFormatter
from hoaflow.logs.options import LogSettings, add_options, set_up
from hoaflow.logs.privacy import AddressHider

__all__ = ["AddressHider", "JsonFormatter", "Log", "LogSettings", "TextFormatter", "add_options", "set_up"]
