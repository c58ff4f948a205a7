# SPDX-License-Identifier: Apache-2.0
"""Read nftables tables, sets and counters from the kernel, and change sets' elements, by nfnetlink.

libnftables reads all elements of all sets of a namespace for any question: with 20,000 bindings that blocks for 0.2 s.
Formats: linux/netfilter/nf_tables.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hoaflow.closing import Closing
from hoaflow.linux import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
)
from hoaflow.tunnel.errors import NftError
from hoaflow.tunnel.namespace import Namespace, in_namespace
from hoaflow.tunnel.rtnetlink import ERROR, HEADER, RECEIVE_BYTES, TIMEOUT, attribute, attributes, unpacked

SUBSYSTEM = 10
FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
BATCH_BEGIN, BATCH_END = 0x10, 0x11
GET_TABLE, GET_CHAIN, GET_RULE, GET_SET, NEW_ELEMENTS, GET_ELEMENTS, DELETE_ELEMENTS, GET_GENERATION, GET_OBJECT = (
    *(1, 4, 7, 10, 12, 13, 14, 16, 19),
)
GENERIC = struct.Struct("!BBH")  # nfgenmsg: family, version, resource
TABLE_NAME, TABLE_FLAGS, TABLE_USE, TABLE_HANDLE = 1, 2, 3, 4
CHAIN_HANDLE, CHAIN_NAME, CHAIN_USE, CHAIN_COUNTERS = 2, 3, 6, 8
RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS, RULE_POSITION, RULE_USERDATA = 2, 3, 4, 6, 7
RULE_COMMENT = 0  # of nft(8)'s own data: type and length, an octet each, and text
EXPRESSION_NAME, EXPRESSION_DATA, LOOKUP_SET = 1, 2, 1
SET_NAME, SET_FLAGS, SET_ID, SET_HANDLE, SET_COUNT = 2, 3, 10, 16, 20
ELEMENTS_TABLE, ELEMENTS_SET, ELEMENTS, LIST_ELEMENT = 1, 2, 3, 1
ELEMENT_KEY, ELEMENT_KEY_END, DATA_VALUE = 1, 10, 1
OBJECT_NAME, OBJECT_TYPE, OBJECT_DATA, OBJECT_USE, OBJECT_HANDLE, COUNTER = 2, 3, 4, 5, 6, 1
COUNTER_BYTES, COUNTER_PACKETS = 1, 2
GENERATION_ID = 1
DORMANT, OWNER = 0x1, 0x2  # flags of a table
ANONYMOUS = 0x1  # a set without a name of its own
ELEMENTS_A_MESSAGE = 500
"""How many fit into one attribute, of at most 65,535 octets."""
SEND_BYTES, SO_SNDBUFFORCE = 1 << 26, 32
READINGS = 5
"""How often a table is read at most, if it changes while it is read."""

Facts = tuple[object, ...]


class Contents(NamedTuple):
    """What a table says in comparable form: without handles, counts and its name."""

    flags: int
    chains: tuple[Facts, ...]
    sets: tuple[Facts, ...]
    objects: tuple[Facts, ...]


class Element(NamedTuple):
    """An element of a set: its key, and for a range the key of the end."""

    key: bytes
    end: bytes = b""


class Count(NamedTuple):
    """The value of a named counter."""

    packets: int
    bytes: int


class NftSocket(Closing):
    """An nfnetlink socket inside a namespace. A context manager. Not thread safe. Raises OSError, NftError."""

    def __init__(self, namespace: Namespace = None) -> None:
        self._socket = in_namespace(
            namespace, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        )
        self._socket.settimeout(TIMEOUT)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BYTES)  # a transaction is sent at one go
        self._socket.bind((0, 0))
        self._sequence = 0
        self._place = f" in namespace {namespace}" if namespace else ""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @property
    def port(self) -> int:
        """The socket's netlink port, with which the kernel reports its changes."""
        return int(self._socket.getsockname()[0])

    def tables(self) -> set[tuple[str, str]]:
        """Return (family, name) of every table in the namespace."""
        names = {number: name for name, number in FAMILIES.items()}
        return {
            (names.get(payload[0], str(payload[0])), _text(_facts(payload)[TABLE_NAME]))
            for payload in self._list(GET_TABLE, 0)
        }

    def table(self, family: str, name: str, terse: bool) -> Contents | None:
        """Return what a table says, or None if it does not exist; `terse`: without the elements of its named sets."""
        number, generation = FAMILIES[family], self._generation()
        for _ in range(READINGS):
            found = self._table(number, name, terse)
            before, generation = generation, self._generation()
            if before == generation:
                break
        return found

    def comments(self, family: str, table: str) -> list[str]:
        """Return the comments of a table's rules; none if there is no such table."""
        found = []
        for payload in self._list(GET_RULE, FAMILIES[family], attribute(1, _bytes(table))):
            data = _facts(payload).get(RULE_USERDATA, b"")
            while len(data) > 2:
                kind, length = data[:2]
                if kind == RULE_COMMENT:
                    found.append(_text(data[2 : 2 + length]))
                data = data[2 + length :]
        return found

    def elements(self, family: str, table: str, name: str) -> list[bytes]:
        """Return the messages with the elements of a set, for `parsed`; none if there is no such set."""
        body = attribute(ELEMENTS_TABLE, _bytes(table)) + attribute(ELEMENTS_SET, _bytes(name))
        return self._list(GET_ELEMENTS, FAMILIES[family], body)

    def counters(self, family: str, table: str) -> dict[str, Count]:
        """Return the named counters of a table."""
        found = {}
        for payload in self._list(GET_OBJECT, FAMILIES[family], attribute(1, _bytes(table))):
            facts = _facts(payload)
            if struct.unpack("!I", facts[OBJECT_TYPE])[0] == COUNTER:
                counts = {kind: int.from_bytes(value, "big") for kind, value in attributes(facts[OBJECT_DATA])}
                found[_text(facts[OBJECT_NAME])] = Count(counts[COUNTER_PACKETS], counts[COUNTER_BYTES])
        return found

    def change_elements(
        self, family: str, table: str, changes: Iterable[tuple[str, Sequence[Element], Sequence[Element] | None]]
    ) -> None:
        """Change elements of several sets, each as (set, added, removed), in one transaction.

        An element that is both removed and added is there afterwards. Adding one that is there and removing one that is
        not are fine. `removed` None removes all that are there.
        """
        messages: list[tuple[int, bytes]] = []
        for name, added, removed in changes:
            head = attribute(ELEMENTS_TABLE, _bytes(table)) + attribute(ELEMENTS_SET, _bytes(name))
            if removed is None:
                messages.append((DELETE_ELEMENTS, head))
            else:
                # The kernel refuses to remove what is not there, so it is added first.
                messages += [
                    (kind, head + part) for kind in (NEW_ELEMENTS, DELETE_ELEMENTS) for part in _parts(removed)
                ]
            messages += [(NEW_ELEMENTS, head + part) for part in _parts(added)]
        if messages:
            self._transaction(FAMILIES[family], messages)

    def _table(self, family: int, name: str, terse: bool) -> Contents | None:
        own = [
            facts for payload in self._list(GET_TABLE, family) if _text((facts := _facts(payload))[TABLE_NAME]) == name
        ]
        if not own:
            return None
        of_table = attribute(1, _bytes(name))
        sets: list[Facts] = []
        anonymous: dict[str, Facts] = {}
        for payload in self._list(GET_SET, family, of_table):
            facts = _facts(payload)
            said, title = _without(facts, 1, SET_NAME, SET_ID, SET_HANDLE, SET_COUNT), _text(facts[SET_NAME])
            nameless = bool(int.from_bytes(facts.get(SET_FLAGS, b""), "big") & ANONYMOUS)
            members: Facts = ()
            if nameless or not terse:
                listed = self._list(GET_ELEMENTS, family, of_table + attribute(ELEMENTS_SET, _bytes(title)))
                members = tuple(sorted(raw for payload in listed for raw in _members(payload)))
            if nameless:
                anonymous[title] = (said, members)
            else:
                sets.append((title, said, members))
        rules: dict[str, list[Facts]] = {}
        for payload in self._list(GET_RULE, family, of_table):
            facts = _facts(payload)
            expressions = tuple(
                _expression(data, anonymous) for _, data in attributes(facts.get(RULE_EXPRESSIONS, b""))
            )
            said = _without(facts, 1, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS, RULE_POSITION)
            rules.setdefault(_text(facts[RULE_CHAIN]), []).append((said, expressions))
        chains = []
        for payload in self._list(GET_CHAIN, family):
            facts = _facts(payload)
            if _text(facts[1]) == name:
                said, title = _without(facts, 1, CHAIN_HANDLE, CHAIN_USE, CHAIN_COUNTERS), _text(facts[CHAIN_NAME])
                chains.append((title, said, tuple(rules.get(title, []))))
        objects = [
            _without(facts, 1, OBJECT_USE, OBJECT_HANDLE, OBJECT_DATA)
            for facts in map(_facts, self._list(GET_OBJECT, family, of_table))
        ]
        flags = int.from_bytes(own[0].get(TABLE_FLAGS, b""), "big")
        return Contents(flags, tuple(sorted(chains)), tuple(sorted(sets)), tuple(sorted(objects)))

    def _generation(self) -> bytes:
        (payload,) = self._request(GET_GENERATION, 0, NLM_F_ACK, b"")
        return _facts(payload)[GENERATION_ID]

    def _list(self, kind: int, family: int, body: bytes = b"") -> list[bytes]:
        return self._request(kind, family, NLM_F_DUMP, body)

    def _request(self, kind: int, family: int, flags: int, body: bytes) -> list[bytes]:
        self._send([(SUBSYSTEM << 8 | kind, flags, GENERIC.pack(family, 0, 0) + body)])
        found: list[bytes] = []
        while True:
            for answer, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    code = -ERROR.unpack_from(payload)[0]
                    if code not in (0, errno.ENOENT):
                        raise NftError(f"reading nftables{self._place} (message {kind}): {os.strerror(code)}")
                    return found
                found.append(payload)

    def _transaction(self, family: int, messages: list[tuple[int, bytes]]) -> None:
        bound = GENERIC.pack(0, 0, SUBSYSTEM)
        body = [
            (SUBSYSTEM << 8 | kind, NLM_F_ACK | (NLM_F_CREATE if kind == NEW_ELEMENTS else 0), part)
            for kind, part in ((kind, GENERIC.pack(family, 0, 0) + part) for kind, part in messages)
        ]
        first = self._sequence + 1
        self._send([(BATCH_BEGIN, 0, bound), *body, (BATCH_END, 0, bound)])
        left = len(body)
        while left:
            for answer, sequence, payload in self._receive():
                if answer == NLMSG_ERROR and first <= sequence <= self._sequence:
                    if code := -ERROR.unpack_from(payload)[0]:
                        raise NftError(f"changing elements of nftables sets{self._place}: {os.strerror(code)}")
                    left -= 1

    def _send(self, messages: list[tuple[int, int, bytes]]) -> None:
        packed = []
        for kind, flags, body in messages:
            self._sequence += 1
            packed.append(HEADER.pack(16 + len(body), kind, NLM_F_REQUEST | flags, self._sequence, 0) + body)
        self._socket.send(b"".join(packed))

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        return unpacked(self._socket.recv(RECEIVE_BYTES))


def parsed(payload: bytes) -> Iterator[Element]:
    """Yield the elements of a message that `elements` returned."""
    for raw in _members(payload):
        facts = dict(attributes(raw))
        yield Element(
            *(dict(attributes(facts.get(kind, b""))).get(DATA_VALUE, b"") for kind in (ELEMENT_KEY, ELEMENT_KEY_END))
        )


def _members(payload: bytes) -> Iterator[bytes]:
    return (raw for _, raw in attributes(_facts(payload).get(ELEMENTS, b"")))


def _parts(elements: Sequence[Element]) -> Iterator[bytes]:
    for start in range(0, len(elements), ELEMENTS_A_MESSAGE):
        packed = b"".join(
            attribute(
                LIST_ELEMENT,
                attribute(ELEMENT_KEY, attribute(DATA_VALUE, key))
                + (attribute(ELEMENT_KEY_END, attribute(DATA_VALUE, end)) if end else b""),
            )
            for key, end in elements[start : start + ELEMENTS_A_MESSAGE]
        )
        yield attribute(ELEMENTS, packed)


def _expression(data: bytes, anonymous: dict[str, Facts]) -> Facts:
    """Return what a rule's expression says, without counts, and with the members of an anonymous set."""
    facts = dict(attributes(data))
    name, says = _text(facts[EXPRESSION_NAME]), facts.get(EXPRESSION_DATA, b"")
    if name == "counter":
        return (name,)
    if name == "lookup":
        parts = dict(attributes(says))
        if (members := anonymous.get(_text(parts[LOOKUP_SET]))) is not None:
            return (name, _without(parts, LOOKUP_SET), members)
    return (name, says)


def _facts(payload: bytes) -> dict[int, bytes]:
    return dict(attributes(payload[GENERIC.size :]))


def _without(facts: dict[int, bytes], *kinds: int) -> Facts:
    return tuple(sorted((kind, value) for kind, value in facts.items() if kind not in kinds))


def _bytes(name: str) -> bytes:
    return name.encode() + b"\0"


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
