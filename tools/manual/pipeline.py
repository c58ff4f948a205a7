# SPDX-License-Identifier: Apache-2.0
"""Generate docs/pipeline.md from the declared tables and from flows read off a real switch."""

import itertools
import re
from pathlib import Path

from controller.core import pipeline
from controller.core.flows import COOKIE_MASK, COOKIE_OWNER, Kind
from controller.core.pipeline import TABLES, Table

HEAD = """\
<!-- Made by `make pages` from controller/core/pipeline.py and from flows read off a switch (docs/dumps). -->
# Pipeline

Four OpenFlow tables, numbered from the setting `first_table` on. A packet begins in `classify`, which keeps on the home
agent's path what must stay there, and sends the rest on only through a **gate**: a flow with the lease as its timeout,
renewed as long as all is well. Without gates nothing leads into the other tables. They take frames for the router's own
MAC addresses, which its agent announces: a frame that was flooded, or is for another router on the same link, is left
alone.

| table | matches on | does | leads to | otherwise |
| --- | --- | --- | --- | --- |
"""
COOKIES = f"""
NORMAL is what the switch does without hoaflow: forward as an Ethernet bridge, or to its kernel. What happens to packets
that match nothing in `classify` is a setting, `classify_miss`.

All flows of hoaflow's have a cookie that begins with `{COOKIE_OWNER >> 32:#x}` (mask `{COOKIE_MASK:#x}`); others are
never changed or removed. The last byte says what a flow is there for:
{", ".join(f"{kind:d} {kind.name.lower()}" for kind in Kind)}.

## What a switch holds, line by line

Read with `ovs-ofctl -O OpenFlow13 --names dump-flows br0` from an Open vSwitch that serves one home agent,
2001:db8:99::1 with home prefix 2001:db8:99::/64, and one mobile node, 2001:db8:99::100 at care-of address
2001:db8:2::2. Durations, timeouts and byte counts are left out. Tables:
{", ".join(f"{number} {table.name}" for number, table in enumerate(TABLES))}.
"""
BACKENDS = {
    "route": "### A router with the `route` backend\n\nIts tunnel endpoint is behind port `tin`.\n",
    "flow": "### A router with the `flow` backend\n\nIts tunnel ports are `tx` and `rx`.\n",
}
# By table and priority; by what it matches on or by backend where that is not enough.
WORDS: dict[tuple[str | int, ...], str] = {
    (pipeline.CLASSIFY, pipeline.RECEIVE_PRIORITY): "What has come out of a tunnel is verified, before anything else.",
    (pipeline.CLASSIFY, pipeline.GUARD_PRIORITY, "nw_proto=135"): (
        "Mobility Header packets, such as a correspondent node's Home Test: signalling is the home agent's."
    ),
    (pipeline.CLASSIFY, pipeline.GUARD_PRIORITY, "icmp_type="): (
        "Neighbour discovery, types 133 to 137: a router on the home link asks the home agent, as proxy, for a home"
        " address."
    ),
    (pipeline.CLASSIFY, pipeline.HOP_LIMIT_PRIORITY): (
        "Packets whose hop limit ends here or in the tunnel endpoint: a router's kernel answers them with Time"
        " Exceeded."
    ),
    (pipeline.CLASSIFY, pipeline.UPLINK_GATE_PRIORITY): (
        "**Gate.** While it stands, unfragmented tunnel packets towards the home agent are looked up by care-of"
        " address, in frames for the router: one such gate for each MAC address of its kernel. It outranks the next, as"
        " the home agent's address lies in its home prefix."
    ),
    (pipeline.CLASSIFY, pipeline.DOWNLINK_GATE_PRIORITY): (
        "**Gates.** While they stand, packets towards the home prefix are looked up by home address, in frames for the"
        " router and in those that its kernel sends: two such gates for each MAC address of its kernel. What the kernel"
        " sends may have come out of a tunnel, from one mobile node to another."
    ),
    (pipeline.CLASSIFY, pipeline.MISS_PRIORITY): "Everything else is none of hoaflow's business.",
    (pipeline.DOWNLINK, pipeline.BINDING_PRIORITY, "route"): (
        "The binding, towards the mobile node: steered to the tunnel endpoint, whose kernel has a route that"
        " encapsulates to the care-of address. (Of mobile network prefixes, longer ones have higher priorities.)"
    ),
    (pipeline.DOWNLINK, pipeline.BINDING_PRIORITY, "flow"): (
        "The binding, towards the mobile node: the tunnel's ends are set, home agent to care-of address, and the"
        " kernel behind port `tx` writes the outer header. (Of mobile network prefixes, longer ones have higher"
        " priorities.)"
    ),
    (pipeline.DOWNLINK, pipeline.MISS_PRIORITY): "No binding is held: to the home agent, or the home link.",
    (pipeline.UPLINK, pipeline.BINDING_PRIORITY, "route"): (
        "The binding, back from the mobile node: its tunnel packets go to the endpoint, which checks that care-of"
        " address and home address belong together before it decapsulates."
    ),
    (pipeline.UPLINK, pipeline.BINDING_PRIORITY, "flow"): (
        "The binding, back from the mobile node: its tunnel packets are redirected to the router's own decapsulator,"
        " and come back by port `rx`."
    ),
    (pipeline.UPLINK, pipeline.MISS_PRIORITY): "An unknown care-of address: the home agent decides.",
    (pipeline.CLASSIFY, pipeline.GUARD_PRIORITY, "in_port=LOCAL"): (
        "Tunnel packets that the router's own kernel sends to the home agent have been here already."
    ),
    (pipeline.VERIFY, pipeline.LEFT_PRIORITY): (
        "What the home agent itself has to see or to pass on goes there in a tunnel again, from the care-of address"
        " that it came from: Mobility Headers such as Home Test Init, multicast, and packets for the home link. The"
        " home agent verifies it, as if it had not been here."
    ),
    (pipeline.VERIFY, pipeline.BINDING_PRIORITY): (
        "What came out of the tunnel from this care-of address and has this home address as its source is genuine: to"
        " the router's kernel, which routes it on."
    ),
    (pipeline.VERIFY, pipeline.MISS_PRIORITY): "All else out of a tunnel is forged, and dropped; the flow counts it.",
}


def page(dumps: Path) -> str:
    """Return the page; `dumps` is the directory of flow dumps, one file per backend."""
    parts = [HEAD, *map(_declaration, TABLES), COOKIES]
    for backend, head in BACKENDS.items():
        parts += [f"\n{head}", *_explained((dumps / f"{backend}.txt").read_text().splitlines(), backend)]
    return "".join(parts)


def _declaration(table: Table) -> str:
    matches = ", ".join(f"`{name}`" for name in sorted(table.matches))
    actions = ", ".join(f"`{action.__name__}`" for action in table.actions)
    leads = ", ".join(f"`{name}`" for name in sorted(table.leads_to)) or "-"
    miss = "`classify_miss`" if table.miss is None else ", ".join(f"`{action}`" for action in table.miss) or "drop"
    return f"| `{table.name}` | {matches} | {actions} | {leads} | {miss} |\n"


def _explained(lines: list[str], backend: str) -> list[str]:
    parts = []
    for words, flows in itertools.groupby(lines, lambda line: explanation(line, backend)):
        block = "\n".join(flows)
        parts.append(f"\n```text\n{block}\n```\n\n{words}\n")
    return parts


def explanation(line: str, backend: str) -> str:
    """Return what a dumped flow is for. Raises ValueError for one that WORDS has no entry for."""
    table, priority = re.search(r"table=(\d+)", line), re.search(r"priority=(\d+)", line)
    if table is None or priority is None:
        raise ValueError(f"expected a line of ovs-ofctl dump-flows, got {line!r}")
    place = TABLES[int(table[1])].name, int(priority[1])
    for key, words in WORDS.items():
        if key[:2] == place and all(more == backend or str(more) in line for more in key[2:]):
            return words
    raise ValueError(f"no words for table {place[0]}, priority {place[1]}: {line!r}; add them to {__name__}")
