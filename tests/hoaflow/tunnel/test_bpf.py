# SPDX-License-Identifier: Apache-2.0
"""BPF programs and maps, as the kernel takes them."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator

import pytest

from hoaflow.addresses import Prefix, parse_address, parse_prefix
from hoaflow.tunnel.bpf import BATCH, BpfError, PrefixMap, Program
from hoaflow.tunnel.bpf_assembler import EXIT, Register, assemble, jump, jump_if_equal, label, move
from hoaflow.tunnel.tunnel_program import code


@pytest.fixture
def table() -> Iterator[PrefixMap]:
    with PrefixMap.create("test", 4, 4) as made:
        yield made


def test_jumps_lead_to_their_labels_forwards_and_backwards() -> None:
    loop = [label("again"), jump_if_equal(Register.R0, 7, "end"), jump("again"), label("end"), EXIT]
    assert assemble(loop).hex(" ", 8) == "1500010007000000 0500feff00000000 9500000000000000"
    with pytest.raises(KeyError):
        assemble([jump("nowhere"), EXIT])


def test_the_kernel_takes_the_tunnel_program_and_shows_what_it_is() -> None:
    with PrefixMap.create("ipv4", 4, 4) as ipv4, PrefixMap.create("ipv6", 16, 4) as ipv6:
        maps = ipv4.descriptor, ipv6.descriptor
        programs = [code(parse_address(address), *maps) for address in ("10.0.0.1", "10.0.0.2")]
        with contextlib.ExitStack() as loaded:
            one, same, other = (loaded.enter_context(Program.load("test", each)) for each in (programs[0], *programs))
            assert one.info().maps == (ipv4.info().number, ipv6.info().number)
            assert one.info().tag == same.info().tag != other.info().tag
            with Program.of_number(one.info().number) as again:
                assert again.info() == one.info()


def test_a_refused_program_is_explained_in_the_verifiers_words() -> None:
    with pytest.raises(BpfError, match=r"refused the BPF program bad: .*last insn is not an exit or jmp"):
        Program.load("bad", assemble([move(Register.R0, 0)]))
    with pytest.raises(BpfError, match="BPF program 4294967295 cannot be opened: No such file"):
        Program.of_number(0xFFFFFFFF)


def test_on_a_machine_whose_system_calls_are_not_known_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "armv7l")
    with pytest.raises(BpfError, match=r"loaded on x86_64, .* only, and this is armv7l"):
        PrefixMap.create("test", 4, 4)


def test_a_map_holds_what_was_put_into_it_over_many_calls(table: PrefixMap) -> None:
    wanted = {Prefix(number.to_bytes(4, "big"), 32): number.to_bytes(4, "little") for number in range(2 * BATCH + 7)}
    wanted[parse_prefix("10.0.0.0/8")] = b"wide"
    table.put(wanted)
    assert dict(table.entries()) == wanted
    table.put({parse_prefix("10.0.0.0/8"): b"else"})
    table.remove([parse_prefix("0.0.0.7"), parse_prefix("192.0.2.1")])
    del wanted[parse_prefix("0.0.0.7")]
    assert dict(table.entries()) == wanted | {parse_prefix("10.0.0.0/8"): b"else"}


def test_a_map_is_found_by_its_number_and_told_from_others(table: PrefixMap) -> None:
    with PrefixMap.of_number(table.info().number) as same:
        assert same.fits(4, 4)
        assert not same.fits(16, 4)
        same.put({parse_prefix("10.0.0.1"): b"same"})
    assert dict(table.entries()) == {parse_prefix("10.0.0.1"): b"same"}
