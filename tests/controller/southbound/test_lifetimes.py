# SPDX-License-Identifier: Apache-2.0
"""Lifetimes bind in a real Open vSwitch, whoever can or cannot end the flows that have no timeout of their own."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench import (
    FIRST,
    HOME_ADDRESS,
    HOME_PREFIX,
    INTO_TUNNEL,
    LEASE,
    MAC,
    REVERSE,
    Bench,
    binding,
    registered,
)
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.proxy import COMMAND, DELETE_STRICT, INNER, Proxy
from tests.support.waiting import wait_for

PROXY_PORT = 6654
TABLE = 24  # where it stands in a flow message
LONG_LEASE = 20  # seconds: long enough for a controller to come back
OTHER = "2001:db8:99::101"


@pytest.fixture
def proxy(ovs: Ovs) -> Iterator[Proxy]:
    """Stands between the switch and the controller."""
    with Proxy(ovs, PROXY_PORT, OPENFLOW_PORT) as running:
        yield running


@pytest.fixture
def bench(ovs: Ovs, tmp_path: Path, proxy: Proxy) -> Iterator[Bench]:
    """Provide a registered mobile node whose traffic goes direct."""
    with Controller(ovs, tmp_path, "answer_within = 2\nread_back_every = 1") as controller:
        yield registered(ovs, controller, PROXY_PORT)


def is_bound(bench: Bench) -> bool:
    """Tell whether the binding lives, keeping lease and agent alive meanwhile."""
    bench.announce()
    bench.agent()
    return bench.controller.call("GET", f"/v1/bindings/{HOME_ADDRESS}").status == 200


def of_binding(bench: Bench) -> list[str]:
    return [flow for flow in bench.flows() if MAC in flow]


def prefix_gate(bench: Bench) -> list[str]:
    """Return the gate for the home prefix, keeping lease and agent alive meanwhile."""
    return [flow for flow in bench.open_gates() if HOME_PREFIX in flow]


def test_only_gates_have_a_timeout(bench: Bench) -> None:
    flows = [line for line in bench.ovs.ofctl("dump-flows", "br0").splitlines() if "cookie=0x686f6166" in line]
    assert len([flow for flow in flows if MAC in flow]) == 2
    for flow in flows:
        assert bool(re.search(r" (hard|idle)_timeout=", flow)) == ("goto_table" in flow), flow


def test_a_live_controller_ends_the_flows(bench: Bench) -> None:
    bench.post(sequence=2, lifetime=2)
    wait_for("the lifetime has ended", lambda: not is_bound(bench))
    wait_for("the flows are gone", lambda: not of_binding(bench))
    assert prefix_gate(bench)
    for trace in (bench.trace(), bench.trace(**REVERSE)):
        assert "NORMAL" in trace


def test_without_the_controller_the_gates_end(bench: Bench) -> None:
    bench.post(sequence=2, lifetime=2)
    bench.controller.kill()
    wait_for("the gates are gone", lambda: not bench.gates())
    assert of_binding(bench), "nobody can end them"
    for trace in (bench.trace(), bench.trace(**REVERSE)):
        assert "NORMAL" in trace


def test_a_deaf_switch_closes_its_gates_and_opens_them_without_what_has_ended(bench: Bench, proxy: Proxy) -> None:
    bench.post(sequence=2, lifetime=2)
    proxy.hearing.clear()
    wait_for("the lifetime has ended", lambda: not is_bound(bench))
    wait_for("the gates are gone", lambda: not bench.open_gates())
    assert of_binding(bench)
    assert "NORMAL" in bench.trace()
    proxy.hearing.set()
    wait_for("a gate opens again", lambda: prefix_gate(bench))
    assert not of_binding(bench)


def test_a_switch_that_refuses_the_deletion_loses_its_gate_until_it_deletes(bench: Bench, proxy: Proxy) -> None:
    bench.post(sequence=2, lifetime=2)
    proxy.deletes = False
    wait_for("the lifetime has ended", lambda: not is_bound(bench))
    wait_for("the gate for the home prefix is gone", lambda: not prefix_gate(bench))
    assert proxy.refused
    assert of_binding(bench)
    assert "NORMAL" in bench.trace()
    bench.post("2001:db8:3::2", 1, home_address=OTHER)

    def why() -> str:
        bench.open_gates()
        return str(bench.controller.get(f"/v1/bindings/{OTHER}/explain")["reason"])

    wait_for("it is said why", lambda: "to go, to which the gate would lead" in why())
    proxy.deletes = True
    wait_for("a gate opens again", lambda: prefix_gate(bench))
    assert not [flow for flow in of_binding(bench) if HOME_ADDRESS in flow or FIRST in flow]


def test_a_controller_that_comes_back_in_time_deletes_what_has_ended_before_it_renews_a_gate(
    bench: Bench, proxy: Proxy
) -> None:
    bench.post("2001:db8:3::2", 1, home_address=OTHER)
    wait_for("the other binding is active", lambda: is_bound(bench) and bench.state(OTHER) == "active")
    bench.announce(lease=LONG_LEASE)

    def leases() -> list[int]:
        flows = bench.ovs.ofctl("dump-flows", "br0", "table=0")
        return [int(seconds) for seconds in re.findall(r"hard_timeout=(\d+), .*goto_table", flows)]

    wait_for("the gates stand for the long lease", lambda: len(leases()) == 2 and min(leases()) > LEASE)
    bench.post(sequence=2, lifetime=1)
    bench.controller.kill()
    committed = len(proxy.committed)
    bench.controller.start()
    wait_for("the switch is back", lambda: bench.controller.get("/v1/routers")["routers"])
    for _ in range(3):
        bench.announce(lease=LONG_LEASE)
        bench.agent()
    assert INTO_TUNNEL in bench.trace(ipv6_dst=OTHER), "the gate stands"
    bench.snapshot(binding("2001:db8:3::2", home_address=OTHER))
    bench.agent()
    wait_for("it is active", lambda: bench.state(OTHER) == "active")
    wait_for("a gate is renewed", lambda: (bench.announce(lease=LONG_LEASE), _gates(proxy, committed))[1])
    sent = [message[INNER:] for bundle in proxy.committed[committed:] for message in bundle]
    first_gate = next(place for place, message in enumerate(sent) if message[TABLE] == 0)
    deleted = [place for place, message in enumerate(sent) if message[COMMAND] == DELETE_STRICT]
    assert len(deleted) == 2
    assert max(deleted) < first_gate
    assert not [flow for flow in of_binding(bench) if HOME_ADDRESS in flow or FIRST in flow]
    assert INTO_TUNNEL in bench.trace(ipv6_dst=OTHER)


def _gates(proxy: Proxy, since: int) -> list[bytes]:
    """Return the flow messages for the first table that have been sent since."""
    messages = [message[INNER:] for bundle in proxy.committed[since:] for message in bundle]
    return [message for message in messages if message[TABLE] == 0]
