# SPDX-License-Identifier: Apache-2.0
"""Generate docs/pipeline.md from the declared tables and from flows read off a real switch."""

import itertools
import re
from pathlib import Path

import controller.southbound.manager  # noqa: F401, imports eventlet without its word on itself
from controller.core import pipeline
from controller.core.flow_sets import FIRST_METER, METERS
from controller.core.flows import COOKIE_MASK, COOKIE_OWNER, TOLD_OCTETS, Kind
from controller.core.pipeline import TABLES, Table
from controller.core.suppressions import MOST_SUPPRESSED, MOST_TOGETHER, SUPPRESSED_FOR
from controller.southbound.packet_ins import METER, MOST_WAITING

HEAD = """\
<!-- Made by `make pages` from controller/core/pipeline.py and from flows read off a switch (docs/dumps). -->
# Pipeline

hoaflow uses four OpenFlow tables, numbered from the setting `first_table`. A packet starts in `classify`. This table
keeps on the home agent's path what must stay there, and sends other packets on only through a **gate**: a flow whose
timeout is the lease, renewed as long as all is well. Without gates, nothing leads into the other tables. Gates match
only frames for the router's own MAC addresses, which its tunnel agent announces, so they ignore flooded frames and
frames for other routers on the same link.

| table | matches on | actions | leads to | if nothing matches |
| --- | --- | --- | --- | --- |
"""
COOKIES = f"""
NORMAL is what the switch does without hoaflow: forward as an Ethernet bridge, or to its kernel. The setting
`classify_miss` chooses what happens to packets that match nothing in `classify`.

All of hoaflow's flows have a cookie that begins with `{COOKIE_OWNER >> 32:#x}` (mask `{COOKIE_MASK:#x}`); hoaflow never
changes or removes others. The last byte is the flow's kind:
{", ".join(f"{kind:d} {kind.name.lower()}" for kind in Kind)}.

Two kinds of flow mark a switch and meet no packets: their destinations lie in 100::/64, where nobody lives (RFC 6666).
A drain marker keeps, over restarts, that an operator has drained the router. A cluster marker tells which cluster of
controllers writes to the switch. Its destination stands for the cluster's identity, a random text in its etcd; the
master renews it every 3 s, and it ends 10 s after the last time. The controllers of another cluster leave a switch with
such a marker alone.

## On demand

A router whose switch gets its flows on demand (setting `install`, or `hoaflow-router run --install`) has two kinds of
flow more in `downlink` and `uplink`, above the miss:

| priority | matches | does |
| --- | --- | --- |
| {pipeline.SUPPRESS_PRIORITY}, for {
    SUPPRESSED_FOR
} s | a home address that can't be offloaded; in `uplink` the tunnel \
packets by a path that no flow takes | NORMAL |
| {pipeline.PACKET_IN_PRIORITY} | a home prefix; in `uplink` the tunnel packets for a home agent | NORMAL, and \
`controller(max_len={TOLD_OCTETS},meter_id=...)` |

So what has no flow goes on to the home agent, and the controller is told. Each home prefix has a meter of its own, and
all tunnel packets have one: {METER.rate} packets a second, and {METER.burst} at once. It is the action's meter. A \
`meter` *instruction* would
drop what goes to the home agent, too. The meters' numbers are {FIRST_METER} to {FIRST_METER + METERS}. One of these \
that is set otherwise is
somebody else's and left alone. hoaflow's own are looked at whenever the flows are read back, and made again, with the
event `meters-lost`.

A home address that is known and may be offloaded then gets its flows, both ways. They stand until their counters have
not changed for `idle_after`; an idle timeout of each flow would cost every handover 50 ms of the switch's processor
with 300,000 flows ([measured](scale.md#why-counters-and-not-idle-timeouts)). Home addresses behind one care-of address
come and go together, as an uplink flow takes the packets of all of them; so do those in a mobile network prefix with
its own. For a home address that can't be offloaded the controller is not told again for {SUPPRESSED_FOR} s, by the \
flow of priority
{pipeline.SUPPRESS_PRIORITY}, of which there are {MOST_SUPPRESSED:,} at the most, and {
    MOST_TOGETHER:,} on all routers together. A new binding's flows stand above it at
once. The controller looks at what it is told of when there is nothing else to do, for one switch at a time; what finds
{MOST_WAITING:,} home addresses waiting is dropped, and told again.

If the switch refuses the meters or the action, it gets the flows of all bindings, and the event
`on-demand-unsupported` says why; it is asked again when it connects anew. What the switch has counted is looked at
whenever its flows are read (`read_back_every`), so this costs no message and no timeout.

## What a switch holds, line by line

These flows were read by `ovs-ofctl -O OpenFlow13 --names dump-flows br0` from an Open vSwitch that serves one home
agent, 2001:db8:99::1 with home prefix 2001:db8:99::/64, and one mobile node, 2001:db8:99::100 at care-of address
2001:db8:2::2. Durations and byte counts are left out. Only gates have a timeout: the lease, here 60 s. The tables are {
    ", ".join(f"{number} {table.name}" for number, table in enumerate(TABLES))
}.
"""
BACKENDS = {
    "route": "### A router with the `route` backend\n\nIts tunnel endpoint is at port `tin`.\n",
    "flow": "### A router with the `flow` backend\n\nIts tunnel ports are `tx` and `rx`.\n",
}
# By table and priority; by what it matches on or by backend where that is not enough.
WORDS: dict[tuple[str | int, ...], str] = {
    (pipeline.CLASSIFY, pipeline.LINK_LOCAL_PRIORITY): (
        "A decapsulated packet with a link-local source, as multicast listener reports have, does not tell its home"
        " network. Its mark does: a home agent's gate set it, and the kernel keeps it. Send the"
        " packet to that home agent, in a tunnel again."
    ),
    (pipeline.UPLINK, pipeline.UNMARK_PRIORITY): (
        "Leave tunnel packets from unknown care-of addresses to the home agent, without the mark of its gate."
    ),
    (pipeline.CLASSIFY, pipeline.RECEIVE_PRIORITY): "Verify decapsulated packets, before anything else.",
    (pipeline.CLASSIFY, pipeline.GUARD_PRIORITY, "nw_proto=135"): (
        "Leave Mobility Header packets, such as a correspondent node's Home Test, to the home agent: they are"
        " signalling."
    ),
    (pipeline.CLASSIFY, pipeline.GUARD_PRIORITY, "icmp_type="): (
        "Leave neighbour discovery (types 133 to 137) alone: a router on the home link asks the home agent, as proxy,"
        " for a home address."
    ),
    (pipeline.CLASSIFY, pipeline.HOP_LIMIT_PRIORITY): (
        "Leave packets whose hop limit ends here or in the tunnel endpoint to a router's kernel, which answers Time"
        " Exceeded."
    ),
    (pipeline.CLASSIFY, pipeline.UPLINK_GATE_PRIORITY): (
        "**Gate.** Look up unfragmented tunnel packets to the home agent by care-of address, in frames for the router."
        " There is one such gate for each MAC address of its kernel. It outranks the next ones because the home agent's"
        " address lies in its home prefix."
    ),
    (pipeline.CLASSIFY, pipeline.DOWNLINK_GATE_PRIORITY): (
        "**Gates.** Look up packets for the home prefix by home address, in frames for the router and in frames that"
        " its kernel sends: two such gates for each MAC address of its kernel. What the kernel sends may have been"
        " decapsulated, on its way from one mobile node to another."
    ),
    (pipeline.CLASSIFY, pipeline.MISS_PRIORITY): "Do with all other packets what the switch does without hoaflow.",
    (pipeline.DOWNLINK, pipeline.BINDING_PRIORITY, "route"): (
        "The binding, towards the mobile node: send the packet to the tunnel endpoint, whose kernel has a route that"
        " encapsulates it to the care-of address. (Longer mobile network prefixes have higher priorities.)"
    ),
    (pipeline.DOWNLINK, pipeline.BINDING_PRIORITY, "flow"): (
        "The binding, towards the mobile node: set the tunnel's addresses, home agent to care-of address; the kernel at"
        " port `tx` writes the outer header. (Longer mobile network prefixes have higher priorities.)"
    ),
    (pipeline.DOWNLINK, pipeline.MISS_PRIORITY): "Without a binding, forward to the home agent or the home link.",
    (pipeline.UPLINK, pipeline.BINDING_PRIORITY, "route"): (
        "The binding, from the mobile node: send its tunnel packets to the endpoint, which decapsulates them only if"
        " care-of address and home address belong together."
    ),
    (pipeline.UPLINK, pipeline.BINDING_PRIORITY, "flow"): (
        "The binding, from the mobile node: redirect its tunnel packets to the router's own decapsulator, from which"
        " they return by port `rx`."
    ),
    (pipeline.UPLINK, pipeline.MISS_PRIORITY): "Leave an unknown care-of address to the home agent, which decides.",
    (pipeline.CLASSIFY, pipeline.GUARD_PRIORITY, "in_port=LOCAL"): (
        "Leave tunnel packets that the router's own kernel sends to the home agent: they have passed the tables before."
    ),
    (pipeline.CLASSIFY, pipeline.RETUNNEL_PRIORITY): (
        "Send packets that the home agent itself must see or forward to it in a tunnel again, from their own care-of"
        " address: Mobility Headers such as Home Test Init, multicast, and packets for the home link. The home agent"
        " verifies them as always. Their mark tells whose tunnel they were in, as anchors of one group share prefixes."
    ),
    (pipeline.VERIFY, pipeline.BINDING_PRIORITY): (
        "A packet from this care-of address with this home address as its inner source is genuine: pass it to the"
        " router's kernel, which routes it on."
    ),
    (pipeline.VERIFY, pipeline.MISS_PRIORITY): "All other decapsulated packets are forged: drop and count them.",
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
