# SPDX-License-Identifier: Apache-2.0
"""What the kernel's IPsec policies protect: bindings whose payload is not to be offloaded."""

import pytest

from ha_bridge.ipsec_policies import Protection
from ha_bridge.kernel_watch import read_policies
from ha_bridge.model import Reading
from ha_bridge.sources import IPSEC, KernelSource
from tests.support.bridge import HOA, HOME_AGENT, HOME_PREFIX, LINK_1, LINK_2
from tests.support.bridge_kernel import Watched, ip, register, within


def protection() -> Protection:
    return Protection(within(read_policies), HOME_AGENT)


def policy(*words: str) -> None:
    ip("xfrm", "policy", "add", *words)


TUNNEL = ("tmpl", "src", HOME_AGENT, "dst", LINK_1, "proto", "esp", "mode", "tunnel")
PROTECTING = {
    "payload to the home address": ("src", "::/0", "dst", f"{HOA}/128", "dir", "out", *TUNNEL),
    "payload to the home prefix": ("src", "::/0", "dst", HOME_PREFIX, "dir", "out", *TUNNEL),
    "payload from the home address": ("src", f"{HOA}/128", "dst", "::/0", "dir", "fwd", *TUNNEL),
    "only TCP": ("src", "::/0", "dst", f"{HOA}/128", "proto", "tcp", "dir", "out", *TUNNEL),
    "authenticated": ("src", "::/0", "dst", f"{HOA}/128", "dir", "out", *TUNNEL[:5], "proto", "ah", "mode", "tunnel"),
    "the tunnel itself": (
        *("src", f"{HOME_AGENT}/128", "dst", f"{LINK_1}/128", "proto", "41", "dir", "out"),
        *("tmpl", "proto", "esp", "mode", "transport"),
    ),
    "everything": ("src", "::/0", "dst", "::/0", "dir", "out", *TUNNEL),
}


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("words", PROTECTING.values(), ids=PROTECTING)
def test_protected_payload_is_recognised(words: tuple[str, ...]) -> None:
    assert not protection().covers(HOA, LINK_1)
    policy(*words)
    assert protection().covers(HOA, LINK_1)


TRANSPORT = ("tmpl", "src", HOME_AGENT, "dst", HOA, "proto", "esp", "mode", "transport")
NOT_PROTECTING = {
    "home address option": (
        *("src", f"{HOA}/128", "dst", f"{HOME_AGENT}/128", "dir", "in", "priority", "16"),
        *("tmpl", "src", HOA, "dst", HOME_AGENT, "proto", "hao", "mode", "ro", "level", "use"),
    ),
    "type 2 routing header": (
        *("src", f"{HOME_AGENT}/128", "dst", f"{HOA}/128", "dir", "out", "priority", "16"),
        *("tmpl", "proto", "route2", "mode", "ro", "level", "use"),
    ),
    "Mobility Headers": ("src", HOME_AGENT, "dst", HOA, "proto", "135", "dir", "out", *TRANSPORT),
    "Mobility Headers in a tunnel": ("src", "::/0", "dst", HOA, "proto", "135", "dir", "out", *TUNNEL),
    "prefix discovery": ("src", HOME_AGENT, "dst", HOA, "proto", "ipv6-icmp", "dir", "out", *TRANSPORT),
    "another home address": ("src", "::/0", "dst", "2001:db8:99::200", "dir", "out", *TUNNEL),
    "no template": ("src", "::/0", "dst", "::/0", "proto", "135", "dir", "out", "priority", "12"),
    "blocked": ("src", "::/0", "dst", HOA, "dir", "out", "action", "block"),
    "IPv4": ("src", "0.0.0.0/0", "dst", "0.0.0.0/0", "dir", "out", *("tmpl", "proto", "esp", "mode", "transport")),
}


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("words", NOT_PROTECTING.values(), ids=NOT_PROTECTING)
def test_what_mobile_ipv6_itself_sets_up_protects_no_payload(words: tuple[str, ...]) -> None:
    policy(*words)
    assert not protection().covers(HOA, LINK_1)


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("direction", ["in", "fwd"])
def test_policy_towards_the_home_agent_is_about_its_source(direction: str) -> None:
    policy("src", f"{HOA}/128", "dst", "::/0", "dir", direction, *TUNNEL)
    found = protection()
    assert found.covers(HOA, LINK_1)
    assert not found.covers("2001:db8:99::200", LINK_2)


@pytest.mark.usefixtures("namespace")
def test_mobile_network_prefix_is_judged_by_itself() -> None:
    policy("src", "::/0", "dst", "2001:db8:aa:1::5/128", "dir", "out", *TUNNEL)
    found = protection()
    assert found.covers("2001:db8:aa:1::/64", LINK_1)
    assert not found.covers(HOA, LINK_1)


@pytest.mark.usefixtures("namespace")
def test_protection_is_noticed_live_when_it_comes_and_goes() -> None:
    watched = Watched().start()
    register(HOA, LINK_1)
    watched.until(lambda: watched.care_of())
    source = KernelSource(watched.watch, listening=lambda: frozenset({1}))

    def withheld() -> dict[str, str | None]:
        reading = source.read()
        assert isinstance(reading, Reading)
        return {binding.home_address: binding.withheld for binding in reading.bindings}

    assert withheld() == {HOA: None}
    policy("src", "::/0", "dst", HOA, "dir", "out", *TUNNEL)
    watched.until(lambda: withheld() == {HOA: IPSEC})
    ip("xfrm", "policy", "delete", "src", "::/0", "dst", HOA, "dir", "out")
    watched.until(lambda: withheld() == {HOA: None})
