# SPDX-License-Identifier: Apache-2.0
"""The core's flows as `ovs-ofctl` takes them, for switches that have no controller."""

import re
from collections.abc import Iterable

from controller.core import pipeline
from controller.core.flows import Flow

# The first table of ours is 0.
TABLE_NUMBERS = {table.name: str(number) for number, table in enumerate(pipeline.TABLES)}
# What `ovs-ofctl` writes differently in a flow's text.
OVS_NAMES = {"ipv4_src": "nw_src", "ipv4_dst": "nw_dst", "reg0=1": "reg0=0x1/0x1"}
OVS_NAMES |= {"ip_frag=0": "nw_frag=no", "ip_frag=1": "nw_frag=first", "ip_frag=3": "nw_frag=later"}
OVS_NAMES |= {"tun_ipv4_src": "tun_src", "tun_ipv4_dst": "tun_dst"}
OVS_NAMES |= TABLE_NUMBERS
_OVS_NAME = re.compile("|".join(rf"\b{name}\b" for name in OVS_NAMES))


def ofctl_text(flows: Iterable[Flow]) -> str:
    """Return one flow a line, tables by number."""
    return "\n".join(_OVS_NAME.sub(lambda found: OVS_NAMES[found.group()], str(flow)) for flow in flows)
