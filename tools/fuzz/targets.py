# SPDX-License-Identifier: Apache-2.0
"""Declare what is fuzzed, as data: nothing of what is fuzzed is loaded before it is asked for."""

import contextlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parents[2] / "tests/data/fuzz"

HARNESS = "tools.fuzz.harness"
SHORT = 5000  # mutations in `make test`; fewer of what takes long


@dataclass(frozen=True, slots=True)
class Target:
    """What is fuzzed: a reader, the errors that its callers handle, and the modules whose coverage guides.

    `reader` is a function of the harness that takes one input. `allowed`: exceptions as `module:name`; any other is a
    find. `words`: what mutations may insert. `short`: mutations in the short run of `make test`.
    """

    name: str
    reader: str
    allowed: tuple[str, ...]
    measured: tuple[str, ...]
    words: tuple[bytes, ...] = ()
    short: int = SHORT

    @property
    def corpus(self) -> Path:
        """Return the directory of its inputs."""
        return CORPUS / self.name

    def inputs(self) -> list[bytes]:
        """Return its corpus, in the order of the files' names."""
        return [path.read_bytes() for path in sorted(self.corpus.iterdir())]

    def load(self) -> Callable[[bytes], None]:
        """Return a function that feeds one input to the reader, and raises only for a find."""
        read: Callable[[bytes], None] = pkgutil.resolve_name(f"{HARNESS}.{self.reader}")
        allowed = tuple(map(pkgutil.resolve_name, self.allowed))

        def feed(data: bytes) -> None:
            with contextlib.suppress(*allowed):
                read(data)

        return feed


JSON = (b"null", b"true", b"-1", b"1e999", b"NaN", b'"', b"{}", b"[]", b"18446744073709551616", b"[" * 3000)
ADDRESSES = (b"2001:db8:99::100", b"2001:db8:2::2", b"::", b"ff02::1", b"::ffff:10.1.0.1", b"fe80::1%1", b"/64", b"/0")
BINARY = (bytes(4), b"\xff" * 4, b"\0\1", b"\0\4", b"\0\x08", b"\0\x10")

TARGETS = (
    Target(
        "http-head",
        "http:head",
        ("controller.rest.http.head:BadHead",),
        ("controller.rest.http.head",),
        (
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"\t",
            b":",
            b"Content-Length: 3\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Host",
        ),
    ),
    Target(
        "http-chunks",
        "http:chunks",
        (),
        ("controller.rest.http.chunks", "eventlet.wsgi"),
        (b"\r\n", b"\n", b"0\r\n\r\n", b";", b"f", b"10000000000000000"),
    ),
    Target(
        "rest",
        "rest:requests",
        (),
        ("controller.rest", "controller.core", "hoaflow.addresses"),
        (*JSON, *ADDRESSES, b"\n---\n", b"GET ", b"PUT ", b"DELETE ", b"?wait=active", b"%2F", b"home_address"),
        short=300,
    ),
    Target(
        "openflow-messages",
        "openflow:message",
        ("controller.southbound.guard:MalformedMessage",),
        ("controller.southbound.guard", "ryu.ofproto"),
        BINARY,
    ),
    Target("openflow-stream", "openflow:stream", (), ("controller.southbound.receiving",), BINARY),
    Target(
        "openflow-flows",
        "openflow:flows",
        ("builtins:ValueError", "struct:error"),
        ("controller.southbound.decoder", "controller.southbound.encoder", "controller.core.flows"),
        BINARY,
    ),
    Target(
        "openflow-removals",
        "openflow:removals",
        ("builtins:ValueError", "struct:error"),
        ("controller.southbound.decoder", "controller.core.flows"),
        BINARY,
    ),
    Target(
        "umip-terminal",
        "terminal:umip",
        ("ha_bridge.terminal_answers:UnreadableAnswer",),
        ("ha_bridge.terminal_answers", "ha_bridge.model", "hoaflow.addresses"),
        (b"\0", b"hoa ", b" MNP: ", b"mip6d> ", b"\x1b[0m", b"(error)", b"registered", *ADDRESSES),
    ),
    Target(
        "pmip-terminal",
        "terminal:pmip",
        ("ha_bridge.terminal_answers:UnreadableAnswer",),
        ("ha_bridge.proxy_answers",),
        (b"peer_addr ", b" Serv_MAG_addr ", b" LMA_addr ", b" lifetime ", b"PMIP", b"\xff", *ADDRESSES),
    ),
    Target(
        "dmm-terminal",
        "terminal:dmm",
        ("ha_bridge.terminal_answers:UnreadableAnswer",),
        ("ha_bridge.proxy_answers",),
        (b"MN-ID ", b"Local HNP ", b"Other registrations:\n", b" lifetime ", b"Serving MAR ", b"\xff", *ADDRESSES),
    ),
    Target("home-agent-terminal", "terminal:home_agent", (), ("hoaflow.mobility.terminal_server",), (b"bc", b"yes")),
    Target(
        "mobility",
        "mobility:packet",
        ("hoaflow.mobility.extension_headers:MalformedPacketError",),
        (
            "hoaflow.mobility.wire",
            "hoaflow.mobility.home_agent_switch",
            "hoaflow.mobility.extension_headers",
            "scapy.layers.inet6",
        ),
        (*BINARY, b"\xc9\x10", b"\x3b", b"\x87", b"\x01\x00", b"\x03\x10", b"\x09"),
        short=3000,
    ),
    Target(
        "proxy-mobility",
        "mobility:proxy_mobility",
        ("hoaflow.mobility.extension_headers:MalformedPacketError",),
        ("hoaflow.pmipv6", "hoaflow.mobility.wire", "hoaflow.mobility.extension_headers"),
        (*BINARY, b"\x16\x12\x00\x40", b"\x17\x02", b"\x1b\x08", b"\x08", b"\x01\x00"),
        short=3000,
    ),
    Target(
        "router-advertisements",
        "mobility:router_advertisement",
        ("hoaflow.mobility.extension_headers:MalformedPacketError",),
        ("hoaflow.mobility.router_advertisements",),
        (*BINARY, b"\x86\x00", b"\x03\x04", b"\x08\x01", b"\x05\x01"),
        short=3000,
    ),
    Target(
        "home-agent-discovery",
        "mobility:home_agent_address_discovery",
        ("hoaflow.mobility.extension_headers:MalformedPacketError",),
        ("hoaflow.mobility.home_agent_discovery",),
        (*BINARY, b"\x90\x00", b"\x91\x00", bytes(16)),
        short=1000,
    ),
    Target(
        "prefix-solicitations",
        "mobility:prefix_solicitation",
        ("hoaflow.mobility.extension_headers:MalformedPacketError",),
        ("hoaflow.mobility.home_agent_discovery", "hoaflow.mobility.wire", "hoaflow.mobility.extension_headers"),
        (*BINARY, b"\xc9\x10", b"\x3a", b"\x92\x00"),
        short=1000,
    ),
    Target(
        "registrations",
        "mobile_ipv4:registration",
        ("hoaflow.mobile_ipv4.wire:MalformedRegistrationError",),
        ("hoaflow.mobile_ipv4.wire",),
        (*BINARY, b"\x20\x14", b"\x21", b"\x82\x00", b"\x01", b"\x03"),
    ),
    Target(
        "packets-of-link",
        "mobile_ipv4:packet_of_link",
        (),
        ("hoaflow.mobile_ipv4.packets", "hoaflow.mobile_ipv4.advertisements"),
        (*BINARY, b"\x45\x00", b"\x09\x10", b"\x10\x06", b"\x0a\x00", b"\x11", b"\x01\xb2"),
    ),
    Target(
        "icmp-errors", "mobility:icmp_error", (), ("hoaflow.tunnel.icmp_errors",), (*BINARY, b"\x3c", b"\x2c", b"\x04")
    ),
    Target(
        "rtnetlink",
        "netlink:routing",
        ("builtins:ValueError", "builtins:KeyError", "struct:error"),
        ("hoaflow.tunnel.rtnetlink", "hoaflow.tunnel.actual_state"),
        BINARY,
    ),
    Target(
        "nfnetlink",
        "netlink:nftables",
        ("builtins:ValueError", "builtins:KeyError", "struct:error"),
        ("hoaflow.tunnel.nfnetlink", "hoaflow.tunnel.rtnetlink"),
        BINARY,
    ),
    Target(
        "bridge-policies",
        "netlink:bridge_policies",
        ("builtins:ValueError", "struct:error"),
        ("ha_bridge.ipsec_policies",),
        BINARY,
    ),
    Target(
        "journal",
        "files:journal",
        ("hoaflow.home_agent.journal:JournalError",),
        ("hoaflow.home_agent.journal",),
        (*JSON, *ADDRESSES, b"\n"),
        short=2000,
    ),
    Target(
        "journal-records",
        "files:journal_records",
        ("hoaflow.home_agent.journal:JournalError",),
        ("hoaflow.home_agent",),
        (*JSON, *ADDRESSES, b"\n", b'"update"', b'"lifetime"'),
        short=2000,
    ),
    Target(
        "tokens-file",
        "files:tokens",
        ("controller.access.tokens:WrongTokens",),
        ("controller.access.tokens", "tomllib"),
        (b"[", b"]", b'"', b"=", b"may", b"token", b"[[a]]\n", b"a.b = 1\n", *ADDRESSES),
        short=2000,
    ),
    Target(
        "token-file",
        "files:token",
        ("hoaflow.client.errors:AccessError",),
        ("hoaflow.client.token_file",),
        (b"=", b"\n"),
    ),
    Target(
        "keys-file",
        "files:keys",
        ("hoaflow.mobility.authentication:KeyFileError",),
        ("hoaflow.mobility.authentication", "tomllib"),
        (b"[", b"]", b'"', b"=", b"spi", b"key", *ADDRESSES),
        short=2000,
    ),
    Target(
        "mobile-ipv4-keys-file",
        "files:keys_of_mobile_ipv4",
        ("hoaflow.mobility.authentication:KeyFileError",),
        ("hoaflow.mobile_ipv4.authentication", "hoaflow.mobility.authentication", "tomllib"),
        (b"[", b"]", b'"', b"=", b"spi", b"key", b"algorithm", b'"hmac-sha256"', *ADDRESSES),
        short=1000,
    ),
    Target(
        "mobile-networks-file",
        "files:mobile_networks",
        ("hoaflow.home_agent.prefix_table:PrefixTableError",),
        ("hoaflow.home_agent.prefix_table", "hoaflow.addresses", "tomllib"),
        (b"[", b"]", b'"', b"=", b",", *ADDRESSES),
        short=2000,
    ),
    Target(
        "ipv4-home-addresses-file",
        "files:ipv4_home_addresses",
        ("hoaflow.home_agent.prefix_table:PrefixTableError",),
        ("hoaflow.home_agent.ipv4_home_addresses", "hoaflow.home_agent.prefix_table", "tomllib"),
        (b'"', b"=", b"\n", b"10.99.0.255", b"10.99.0.1", *ADDRESSES),
        short=1000,
    ),
    Target(
        "mobile-nodes-file",
        "files:mobile_nodes",
        ("hoaflow.pmipv6.mobile_nodes:ProfileError",),
        ("hoaflow.pmipv6.mobile_nodes", "tomllib"),
        (b"[", b"]", b'"', b"=", b"prefixes", b"link_layer_address", *ADDRESSES),
        short=2000,
    ),
    Target(
        "settings-file",
        "files:settings",
        ("controller.settings:WrongSettings", "oslo_config.cfg:Error", "builtins:UnicodeDecodeError"),
        ("controller.settings",),
        (b"[hoaflow]\n", b"\n", b"=", b"etcd", b"nan", b"inf", b"$", b"first_table", b"\xff"),
        short=200,
    ),
    Target(
        "etcd-answers",
        "answers:etcd",
        ("hoaflow.etcd.errors:EtcdError",),
        ("hoaflow.etcd", "controller.cluster.records"),
        (*JSON, b'"kvs"', b'"header"', b'"result"', b'"error"'),
        short=1000,
    ),
    Target(
        "etcd-records", "answers:records", (), ("controller.cluster.records",), (*JSON, b"members/", b"routers/", b"\n")
    ),
    Target(
        "answers-to-bridge",
        "answers:bridge",
        (),
        ("ha_bridge.client", "hoaflow.client"),
        (*JSON, b'"results"', b'"errors"', b'"bindings"', b'"cluster"'),
        short=500,
    ),
    Target(
        "answers-to-agent",
        "answers:agent",
        ("hoaflow.router.client:ControllerError", "hoaflow.client.errors:NorthboundError"),
        ("hoaflow.router.client", "hoaflow.client"),
        (*JSON, b'"revision"', b'"tunnels"', b'"lease"'),
        short=500,
    ),
)
BY_NAME = {target.name: target for target in TARGETS}
