# SPDX-License-Identifier: Apache-2.0
"""Attach the tunnel program to an interface, and keep its maps of home addresses (`hoaflow.tunnel.tunnel_program`).

A binding is one entry of a map. The maps belong to the program, and the program to its tc filter, so both stay as they
are while no process has them open, and a program that takes the place of another one takes over its maps.
"""

import contextlib
import functools
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hoaflow.addresses import Prefix, format_address, parse_address, parse_prefix
from hoaflow.closing import Closing
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.bpf import BpfError, PrefixMap, Program
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.namespace import Namespace
from hoaflow.tunnel.objects import place
from hoaflow.tunnel.rtnetlink import RouteSocket, attribute, interface_index
from hoaflow.tunnel.tc import Filter, Hook, Tc, TcError
from hoaflow.tunnel.tunnel_program import DESTINATION, LookedUp, code

NAME = "hoaflow_tunnel"  # of the program and its filter, for bpftool(8) and tc(8)
PREFERENCE, HANDLE = 1, 1
OURS = (PREFERENCE, HANDLE, "bpf")
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_NUMBER = 6, 7, 8, 11
DIRECT_ACTION = 1  # what the program returns is what happens to the packet
IPV4_SIZE, IPV6_SIZE = 4, 16  # octets of addresses
CARE_OF_SIZE = 4
NEEDS = "IPv4 tunnels need Linux >= 5.13 with CONFIG_BPF_SYSCALL, CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF"


def check_kernel(home_agent: str) -> None:
    """Have the kernel verify the program, and let go of it. Raises BpfError with the verifier's words."""
    _tag(home_agent, DESTINATION)


class TunnelMaps(Closing):
    """The maps of the program on an interface: {home address or prefix: care-of address}. A context manager.

    Home addresses are text as for `Seg6Routes`. Every call is idempotent. Not thread safe.
    """

    def __init__(self, namespace: Namespace, dev: str, hook: Hook = Hook.EGRESS) -> None:
        """Open the maps. Raises BpfError if the program is missing, NamespaceError."""
        self._maps = _present_maps(namespace, dev, hook)
        if self._maps is None:
            raise BpfError(f"the tunnel program is missing on {dev}{place(namespace)}")

    def close(self) -> None:
        """Let go of the maps, which stay."""
        for each in (self._maps or {}).values():
            each.close()

    def installed(self) -> dict[str, str]:
        """Return {home address or prefix: care-of address}, read from the kernel."""
        assert self._maps is not None
        return {
            str(prefix): format_address(care_of) for each in self._maps.values() for prefix, care_of in each.entries()
        }

    def put_all(self, care_of_addresses: Mapping[str, str]) -> dict[str, str]:
        """Set entries for many; returns {home address or prefix: reason} of those refused."""
        assert self._maps is not None
        entries: dict[int, dict[Prefix, bytes]] = {IPV4_SIZE: {}, IPV6_SIZE: {}}
        refused: dict[str, str] = {}
        for home, care_of in care_of_addresses.items():
            prefix, packed = parse_prefix(home), parse_address(care_of)
            if len(packed) == CARE_OF_SIZE:
                entries[len(prefix.packed)][prefix] = packed
            else:
                refused[home] = f"expected an IPv4 care-of address, as the home agent's is IPv4, got {care_of}"
        for size, each in self._maps.items():
            try:
                each.put(entries[size])
            except BpfError as error:
                refused |= dict.fromkeys(map(str, entries[size]), str(error))
        return refused

    def remove_all(self, homes: Iterable[str]) -> dict[str, str]:
        """Remove the entries of many; returns {home address or prefix: reason} of those refused."""
        assert self._maps is not None
        wanted = [parse_prefix(home) for home in homes]
        for size, each in self._maps.items():
            each.remove([prefix for prefix in wanted if len(prefix.packed) == size])
        return {}


@dataclass(frozen=True)
class TunnelProgram:
    """The tunnel program of one end of tunnels at a hook of an interface, and no other tc filter there.

    `own`: the address of this end, a home agent's or a foreign agent's, which looks up packets' sources.
    """

    namespace: Namespace
    dev: str
    own: str
    hook: Hook = Hook.EGRESS
    looked_up: LookedUp = DESTINATION

    def __str__(self) -> str:
        return f"tunnel program for {self.own} on {self.dev}{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        number = actual.link(self.namespace, self.dev).number
        other = next(each for each in Hook if each is not self.hook)
        if actual.filters(self.namespace, number, other):
            return f"{self.dev} has another tc filter at {other.name.lower()}{place(self.namespace)}"
        found = actual.filters(self.namespace, number, self.hook)
        state = "is missing" if not found else "is not the only tc filter" if len(found) > 1 else self._state(found[0])
        return state and f"the tunnel program on {self.dev} {state}{place(self.namespace)}"

    def make(self) -> None:
        # With the present maps, no binding is lost; what else has been changed goes.
        maps = _present_maps(self.namespace, self.dev, self.hook) or _new_maps()
        with contextlib.ExitStack() as opened:
            for each in maps.values():
                opened.enter_context(each)
            program = opened.enter_context(_load(self.own, maps, self.looked_up))
            netlink = opened.enter_context(contextlib.closing(RouteSocket(self.namespace)))
            try:
                self._attach(Tc(netlink), program)
            except TcError as error:
                raise TcError(f"{self} ({NEEDS}): {error}", error.code) from error

    def remove(self) -> bool:
        with contextlib.closing(RouteSocket(self.namespace)) as netlink:
            return self._clear(Tc(netlink), all_of_them=True)

    def _state(self, found: Filter) -> str | None:
        number = _program_number(found)
        if number is None or found.options.get(TCA_BPF_FLAGS) != struct.pack("=I", DIRECT_ACTION):
            return "has been replaced"
        with Program.of_number(number) as program:
            if program.info().tag != _tag(self.own, self.looked_up):
                return "has been replaced"
            maps = _maps_of(program)
        for each in (maps or {}).values():
            each.close()
        return None if maps else "has maps of another kind"

    def _attach(self, tc: Tc, program: Program) -> None:
        interface = self._interface()
        if (kind := tc.qdisc(interface)) != "clsact":
            if kind is not None:
                tc.remove_qdisc(interface, kind)
            tc.add_clsact(interface)
        self._clear(tc)
        options = attribute(TCA_BPF_FD, struct.pack("=I", program.descriptor))
        options += attribute(TCA_BPF_NAME, NAME.encode() + b"\0")
        options += attribute(TCA_BPF_FLAGS, struct.pack("=I", DIRECT_ACTION))
        # In one step: no packet meets none.
        tc.put(interface, self.hook, "bpf", PREFERENCE, HANDLE, options)

    def _clear(self, tc: Tc, all_of_them: bool = False) -> bool:
        """Remove other filters (with `all_of_them`, our own, too); returns whether there were any.

        A filter of ours that shares its preference with another one goes as well, for a moment.
        """
        found = {
            (hook, each.info): each
            for hook in Hook
            for each in tc.filters(self._interface(), hook)
            if all_of_them or hook is not self.hook or (each.preference, each.handle, each.kind) != OURS
        }
        for (hook, _), each in found.items():
            tc.remove(self._interface(), hook, each)
        return bool(found)

    def _interface(self) -> int:
        index = interface_index(self.namespace, self.dev)
        if index is None:
            raise LinkError(f"interface {self.dev} is missing{place(self.namespace)}")
        return index


def _program_number(found: Filter) -> int | None:
    number = found.options.get(TCA_BPF_NUMBER)
    return int(struct.unpack("=I", number)[0]) if found.kind == "bpf" and number else None


def _present_maps(namespace: Namespace, dev: str, hook: Hook) -> dict[int, PrefixMap] | None:
    """Open the maps of the program that is attached, by the size of home addresses; None where there are none."""
    index = interface_index(namespace, dev)
    if index is None:
        return None
    with contextlib.closing(RouteSocket(namespace)) as netlink:
        filters = Tc(netlink).filters(index, hook)
    for found in filters:
        if found.preference == PREFERENCE and (number := _program_number(found)) is not None:
            with Program.of_number(number) as program:
                return _maps_of(program)
    return None


def _maps_of(program: Program) -> dict[int, PrefixMap] | None:
    with contextlib.ExitStack() as opened:
        found = [opened.enter_context(PrefixMap.of_number(number)) for number in program.info().maps]
        by_size = {size: each for each in found for size in (IPV4_SIZE, IPV6_SIZE) if each.fits(size, CARE_OF_SIZE)}
        if len(found) != 2 or len(by_size) != 2:
            return None
        opened.pop_all()
        return by_size


def _new_maps() -> dict[int, PrefixMap]:
    with contextlib.ExitStack() as opened:
        made = {
            size: opened.enter_context(PrefixMap.create(f"hoaflow_{name}", size, CARE_OF_SIZE))
            for size, name in ((IPV4_SIZE, "ipv4"), (IPV6_SIZE, "ipv6"))
        }
        opened.pop_all()
        return made


def _load(own: str, maps: Mapping[int, PrefixMap], looked_up: LookedUp) -> Program:
    descriptors = (maps[IPV4_SIZE].descriptor, maps[IPV6_SIZE].descriptor)
    try:
        return Program.load(NAME, code(parse_address(own), *descriptors, looked_up))
    except BpfError as error:
        raise BpfError(f"{error}. {NEEDS}") from error


@functools.cache
def _tag(own: str, looked_up: LookedUp) -> bytes:
    """Return the tag that the kernel gives the program, learned once: kernels use different hashes."""
    with contextlib.ExitStack() as opened:
        maps = _new_maps()
        for each in maps.values():
            opened.enter_context(each)
        return opened.enter_context(_load(own, maps, looked_up)).info().tag
