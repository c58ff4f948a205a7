# SPDX-License-Identifier: Apache-2.0
"""What the bridge makes of Proxy Mobile IPv6 anchors: recorded terminals and kernels of OAI PMIPv6 and MAD-PMIPv6."""

from dataclasses import replace
from pathlib import Path

import pytest

from ha_bridge.ipsec_policies import Protection
from ha_bridge.kernel_view import KernelView
from ha_bridge.model import SEVERAL_GATEWAYS, CacheEntry, Observed, Reading
from ha_bridge.proxy_answers import DIALECTS, parse_dmm, parse_pmip
from ha_bridge.selection import SETTLE, ProxyRegistrations, SettledKernel
from ha_bridge.sources import TerminalSource
from ha_bridge.terminal_answers import AnswerReader, UnreadableAnswer
from ha_bridge.terminal_client import TerminalClient
from tests.support.bridge import HOME_AGENT, LINK_1, LINK_2, Terminal, bridge, unpadded
from tests.support.bridge_controller import Controller
from tests.support.bridge_process import arguments
from tests.support.kernel_events import dumped, link_message, recorded, route_message

DATA = Path(__file__).parents[1] / "data" / "pmipv6"
OAI, MAD = DATA / "oai", DATA / "mad"
LMA, MAG_1, MAG_2 = "2001:100::1", "2001:100::2", "2001:100::3"
ADDRESS, HNP = "2001:db8:f1:1:0:ff:fe00:a01", "2001:db8:f1:1::/64"
POOL = ["2001:db8:f1::/48"]
REGISTERED = CacheEntry(ADDRESS, "PMIP", MAG_1, "P", LMA, left=37, overdue=False, total=40, sequence=0)


def answer(path: Path) -> bytes:
    """Return the plain answer of a capture."""
    reader = AnswerReader()
    reader.feed(path.read_bytes())
    return reader.take() or b""


class Kernel:
    """A kernel that shows what it is given."""

    def __init__(self, *shown: Observed) -> None:
        self.shown = list(shown)
        self.now = 0.0

    def bindings(self) -> list[Observed]:
        return self.shown

    def protection(self) -> Protection:
        return Protection([], LMA)

    def settled(self) -> SettledKernel:
        return SettledKernel(self, lambda: self.now)


def test_oais_terminal() -> None:
    assert parse_pmip(answer(OAI / "vt-lma-reg1.bin")) == [REGISTERED]


def test_the_terminal_of_a_gateway_is_not_taken_for_an_lmas() -> None:
    with pytest.raises(UnreadableAnswer, match="run the bridge beside the LMA"):
        parse_pmip(answer(OAI / "vt-mag1-reg1.bin"))


def test_mads_terminals() -> None:
    (entry,) = parse_dmm(answer(MAD / "vt-mar1-at2.bin"))
    assert (entry.home_address, entry.care_of_address) == ("2001:db8:f1:1::", "2001:100::a2")
    assert parse_dmm(answer(MAD / "vt-mar2-at2.bin")) == [], "on its own link"
    with pytest.raises(UnreadableAnswer, match="expected the prefix of an anchor"):
        parse_dmm(answer(MAD / "vt-cmd-at2.bin"))


@pytest.mark.parametrize("command", DIALECTS)
def test_no_line_is_passed_over(command: str) -> None:
    parse = DIALECTS[command].parse
    whole = answer(OAI / "vt-lma-reg1.bin") if command == "pmip" else answer(MAD / "vt-mar1-at2.bin")
    assert len(parse(whole + whole)) == 2
    assert parse(b"") == []
    for lost in (0, len(whole) - 1):
        with pytest.raises(UnreadableAnswer):
            parse(whole + whole[:lost] + whole[lost + 1 :])


def story(path: Path, anchor: str, prefix_length: int = 128) -> list[dict[str, str]]:
    """Return what the kernel view shows in the course of a recorded run: each state once."""
    view = KernelView(anchor, POOL, prefix_length)
    states: list[dict[str, str]] = [{}]
    for _stamp, message in recorded(path):
        view.apply(message)
        state = {binding.home_address: binding.care_of_address for binding in view.bindings()}
        if state != states[-1]:
            states.append(state)
    return states


def test_the_kernel_of_oais_lma() -> None:
    assert story(OAI / "monitor-lma.txt", LMA) == [{}, {ADDRESS: MAG_1}, {}, {ADDRESS: MAG_2}, {}]
    assert story(OAI / "monitor-lma.txt", LMA, 64) == [{}, {HNP: MAG_1}, {}, {HNP: MAG_2}, {}]


def test_the_kernel_of_mads_anchor() -> None:
    assert story(MAD / "monitor-mar1.txt", "2001:100::a1", 64) == [{}, {HNP: "2001:100::a2"}]
    assert story(MAD / "monitor-mar2.txt", "2001:100::a2", 64) == [{}], "all on its own link"


@pytest.mark.parametrize(
    ("path", "node", "anchor", "shown"),
    [
        (OAI / "state-reg1.txt", "lma", LMA, {HNP: MAG_1}),
        (OAI / "state-reg2.txt", "lma", LMA, {HNP: MAG_2}),
        (OAI / "state-reg1.txt", "mag1", MAG_1, {}),
        (OAI / "state-reg2.txt", "mag2", MAG_2, {}),
        (MAD / "state-at1.txt", "mar1", "2001:100::a1", {}),
        (MAD / "state-at2.txt", "mar1", "2001:100::a1", {HNP: "2001:100::a2"}),
        (MAD / "state-at2.txt", "mar2", "2001:100::a2", {}),
    ],
)
def test_what_a_bridge_finds_that_starts_later(path: Path, node: str, anchor: str, shown: dict[str, str]) -> None:
    view = KernelView(anchor, POOL, 64)
    for message in (messages := list(dumped(path, node))):
        view.apply(message)
    assert messages
    assert {binding.home_address: binding.care_of_address for binding in view.bindings()} == shown


def test_a_prefix_whose_addresses_the_kernel_leads_to_several_gateways_is_withheld() -> None:
    view = KernelView(LMA, POOL, 64)
    for index, (gateway, last) in enumerate([(MAG_1, "a"), (MAG_2, "b")], start=5):
        view.apply(link_message(index, LMA, gateway, gone=False))
        view.apply(route_message(f"2001:db8:f1:1::{last}", 252, 16, 1024, index, None, gone=False))
    (found,) = view.bindings()
    assert (found.home_address, found.withheld) == (HNP, SEVERAL_GATEWAYS)
    selected = ProxyRegistrations(LMA, 64, Kernel(found).settled()).offloadable([REGISTERED])
    assert [each.withheld for each in selected] == [SEVERAL_GATEWAYS]


def test_a_route_that_is_gone_for_a_moment_is_a_handover_and_no_deregistration() -> None:
    kernel = Kernel(Observed(HNP, MAG_1))
    settled = kernel.settled()
    assert settled.bindings() == [Observed(HNP, MAG_1)]
    kernel.shown, kernel.now = [], 100.0
    assert settled.bindings() == [Observed(HNP, MAG_1)]
    kernel.now += SETTLE * 0.9
    assert settled.bindings() == [Observed(HNP, MAG_1)]
    kernel.shown = [Observed(HNP, MAG_2)]
    assert settled.bindings() == [Observed(HNP, MAG_2)]
    kernel.shown, kernel.now = [], kernel.now + 100
    assert settled.bindings()
    kernel.now += SETTLE
    assert settled.bindings() == []


def test_the_route_counts_where_the_lma_keeps_its_entry() -> None:
    kernel = Kernel(Observed(HNP, MAG_1))
    selection = ProxyRegistrations(LMA, 64, kernel.settled())
    assert selection.offloadable([REGISTERED]) == [Observed(HNP, MAG_1, 37, 40)]
    kernel.shown = [Observed(HNP, MAG_2)]
    assert selection.offloadable([REGISTERED]) == [Observed(HNP, MAG_2, 37, 40)]
    assert selection.offloadable([]) == [], "neither without its entry"
    kernel.shown = []
    selection.offloadable([REGISTERED])
    kernel.now += SETTLE
    assert selection.offloadable([REGISTERED]) == []
    assert selection.decided([REGISTERED]) == {HNP}


@pytest.mark.parametrize(
    "entry",
    [
        replace(REGISTERED, status="TEMP"),
        replace(REGISTERED, status="EMPTY"),
        replace(REGISTERED, left=0, overdue=True),
        replace(REGISTERED, local="2001:100::99"),
    ],
)
def test_only_registrations_at_this_lma_are_offloaded(entry: CacheEntry) -> None:
    assert ProxyRegistrations(LMA, 128, None).offloadable([entry]) == []


def test_one_prefix_behind_several_gateways_is_withheld() -> None:
    elsewhere = replace(REGISTERED, home_address="2001:db8:f1:1::b", care_of_address=MAG_2)
    (found,) = ProxyRegistrations(LMA, 64, None).offloadable([REGISTERED, elsewhere])
    assert found.withheld is not None
    assert "RFC 7864" in found.withheld
    assert len(ProxyRegistrations(LMA, 128, None).offloadable([REGISTERED, elsewhere])) == 2


def test_an_lma_is_read_through_its_terminal() -> None:
    shown = answer(OAI / "vt-lma-reg1.bin").decode()
    terminal = Terminal(lambda: shown, command="pmip")
    try:
        client = TerminalClient("127.0.0.1", terminal.port, command="pmip", parse=parse_pmip)
        reading = TerminalSource(client, LMA, None, selection=ProxyRegistrations(LMA, 64, None)).read()
    finally:
        terminal.close()
    assert isinstance(reading, Reading)
    assert reading.bindings == [Observed(HNP, MAG_1, 37, 40)]


def test_the_bridge_of_an_lma_announces_and_reports_it(controller: Controller) -> None:
    home, gateways = "2001:db8:99:0:1::a", [LINK_1]

    def cache() -> str:
        return "".join(
            f"peer_addr {unpadded(home)} status PMIP\n"
            f" Serv_MAG_addr {unpadded(gateway)} local {unpadded(HOME_AGENT)}\n"
            " lifetime 37 / 40 seq 1\n"
            for gateway in gateways
        )

    terminal = Terminal(cache, command="pmip")
    options = ("--protocol", "pmipv6", "--home-network-prefix-length", "80", "--group", "campus")
    try:
        with bridge(*arguments(controller, terminal.port, *options)) as process:
            process.wait("snapshot-sent")
            announced = controller.home_agents[HOME_AGENT]
            assert (announced["protocols"], announced["group"]) == (["pmipv6"], "campus")
            gateways[:] = [LINK_2]
            controller.wait(lambda: controller.care_of() == {"2001:db8:99:0:1::/80": LINK_2})
            (reported,) = controller.bindings.values()
            assert reported["protocol"] == "pmipv6"
            assert "sequence" not in reported
            gateways.clear()
            controller.wait(lambda: controller.care_of() == {})
    finally:
        terminal.close()
