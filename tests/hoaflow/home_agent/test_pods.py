# SPDX-License-Identifier: Apache-2.0
"""Two pods for one home agent address, with a real etcd: whatever befalls one, the other serves, and never both do."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hoaflow.etcd import EtcdClient
from hoaflow.home_agent.pods.keys import Keys, owner_name
from tests.support.counting import COUNT, ECHO
from tests.support.mobility import CARE_OF_1, CARE_OF_2, HOME_ADDRESS, HOME_AGENT, Node
from tests.support.pods import PodLab
from tests.support.roaming import key_file, registers
from tests.support.waiting import wait_for

KEYS = Keys("lab", HOME_AGENT)


class Pair(NamedTuple):
    """A pod that serves, one that stands by, and a mobile node away from home that is registered at the first."""

    serving: Node
    standby: Node
    mobile_node: Node


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[PodLab]:
    with PodLab(tmp_path / "etcd") as built:
        yield built


@pytest.fixture
def pair(lab: PodLab, tmp_path: Path) -> Pair:
    keys = key_file(tmp_path)
    serving = lab.pod("ha", "--keys", keys)
    serving.logged("event=serving")
    standby = lab.pod("hb", "--keys", keys)
    standby.logged("event=standing-by serving=ha")
    node = lab.mobile_node("--keys", keys, "--lifetime", "600")
    registers(lab, node, "m1", CARE_OF_1)
    assert lab.ping("cn", HOME_ADDRESS) == 3
    return Pair(serving, standby, node)


def owner(lab: PodLab) -> str:
    with EtcdClient(lab.etcd.endpoints, lab.access) as client:
        return owner_name(client.get(KEYS.owner))


def kernel_speaks(lab: PodLab, pod: str) -> bool:
    """Tell whether a pod's kernel has the home agent's address, or answers for a mobile node."""
    return bool(lab.run(pod, f"ip -6 address show to {HOME_AGENT}") + lab.run(pod, "ip -6 neigh show proxy"))


def test_a_killed_pod_is_followed_by_the_other_and_a_stopped_one_at_once(
    lab: PodLab, pair: Pair, tmp_path: Path
) -> None:
    pair.serving.stop(kill=True)
    pair.standby.logged("event=serving")
    wait_for("the router knows the new owner", lambda: lab.answers("hb"))
    assert lab.ping("cn", HOME_ADDRESS) == 3
    # A bridge elsewhere, which asks the terminal at the address that moves, goes on with the new owner.
    assert b"coa 2001:db8:2:0:0:0:0:2 flags AH--\n" in lab.console("bc", name="rt", host=HOME_AGENT)
    # Its sequence number is the next one, and the pod that never saw the first takes it.
    registers(lab, pair.mobile_node, "m2", CARE_OF_2)
    assert lab.ping("cn", HOME_ADDRESS) == 3

    # Started again, it removes what its killed process has left, and stands by.
    assert kernel_speaks(lab, "ha")
    again = lab.pod("ha", "--keys", key_file(tmp_path))
    again.logged("event=standing-by serving=hb")
    assert not kernel_speaks(lab, "ha")

    # One that is stopped gives the address back, and its kernel goes on until the other one is there.
    lab.script("mn", ECHO, HOME_ADDRESS).out.wait(lambda line: line == "ready")
    counting = lab.script("cn", COUNT, HOME_ADDRESS)
    counting.event("counting")
    assert pair.standby.stop() == 0
    assert not kernel_speaks(lab, "hb")
    assert owner(lab) != "hb"  # so nobody waits for the end of the lease
    again.logged("event=serving")
    wait_for("the router knows the new owner", lambda: lab.answers("ha"))
    counting.process.terminate()
    assert counting.event("counted")["lost"] == []
    registers(lab, pair.mobile_node, "m1", CARE_OF_1)
    assert lab.ping("cn", HOME_ADDRESS) == 3


def test_a_pod_that_wakes_up_as_a_former_one_serves_nothing(lab: PodLab, pair: Pair) -> None:
    pair.serving.process.send_signal(signal.SIGSTOP)
    lab.link("m1", "down")
    since = len(pair.mobile_node.out.lines)
    lab.link("m2", "up")  # so an update waits in the stopped pod's socket
    pair.mobile_node.event("binding-update-sent", since, care_of_address=CARE_OF_2)
    pair.standby.logged("event=serving")
    pair.mobile_node.event("registered", since, care_of_address=CARE_OF_2)
    # The stopped pod's kernel has both addresses still, but does not say so.
    assert kernel_speaks(lab, "ha")
    for _ in range(3):
        lab.run("rt", "ip -6 neigh flush dev br0")
        assert lab.ping("cn", HOME_ADDRESS) == 3
        assert lab.ping("cn", HOME_AGENT) == 3
        assert lab.answers("hb")

    since = len(pair.serving.log.lines)
    pair.serving.process.send_signal(signal.SIGCONT)
    pair.serving.logged("event=ownership-lost", since=since)
    pair.serving.logged("event=standing-by serving=hb", since=since)
    assert not [line for line in pair.serving.log.lines[since:] if "event=binding-ack-sent" in line]
    assert not kernel_speaks(lab, "ha")
    assert lab.answers("hb")
    assert lab.ping("cn", HOME_ADDRESS) == 3


def test_a_pod_cut_off_from_etcd_alone_hears_the_next_owner_and_falls_silent(lab: PodLab, pair: Pair) -> None:
    lab.cut_off("ha", "e0")
    pair.standby.logged("event=serving")
    pair.serving.logged("event=ownership-lost", "another pod announces the address")
    wait_for("the former owner has let go", lambda: not kernel_speaks(lab, "ha"))
    registers(lab, pair.mobile_node, "m2", CARE_OF_2)
    lab.run("ha", "ip link set e0 up")
    pair.serving.logged("event=standing-by serving=hb")


def test_a_pod_whose_home_link_goes_down_gives_way(lab: PodLab, pair: Pair) -> None:
    lab.cut_off("ha", "hl")
    pair.serving.logged("event=ownership-lost", "the home link is down")
    pair.standby.logged("event=serving")
    registers(lab, pair.mobile_node, "m2", CARE_OF_2)
    assert lab.ping("cn", HOME_ADDRESS) == 3


def test_while_etcd_is_away_the_kernel_goes_on_and_nothing_is_acknowledged(lab: PodLab, pair: Pair) -> None:
    lab.etcd.kill(0)
    pair.serving.logged("event=etcd-unreachable")
    since, lines = len(pair.mobile_node.out.lines), len(pair.serving.log.lines)
    lab.link("m1", "down")
    lab.link("m2", "up")
    pair.mobile_node.event("binding-update-sent", since, care_of_address=CARE_OF_2)
    pair.serving.logged("reason=not_owner", since=lines)  # the lease would be over
    lab.run("rt", "ip -6 neigh flush dev br0")
    assert lab.ping("cn", HOME_AGENT) == 3
    assert not [line for line in pair.serving.log.lines[lines:] if "event=binding-ack-sent" in line]
    lab.etcd.start(0)
    pair.mobile_node.event("registered", since, care_of_address=CARE_OF_2)
    assert lab.ping("cn", HOME_ADDRESS) == 3
