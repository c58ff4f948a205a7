# SPDX-License-Identifier: Apache-2.0
"""Two pods of one home agent address with a bridge each, etcd, a controller and Open vSwitch, all of them real."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etcd import CLIENT_PORT, Etcd
from tests.support.ping import echo
from tests.support.two_pods import TwoPods, TwoPodsTopo
from tests.support.waiting import TIMEOUT, wait_for
from topologies import addresses as at
from topologies.load import AnchorLoad
from topologies.testbed import Testbed
from topologies.traffic import Span, Traffic, lost


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[TwoPods]:
    """Start everything; the mobile node is on foreign link 1, and its traffic goes direct."""
    anywhere = f"--listen-client-urls=http://0.0.0.0:{CLIENT_PORT}"
    with (
        Testbed(TwoPodsTopo(), tmp_path / "logs") as bed,
        Etcd(tmp_path / "etcd", members=1, options=[anywhere]),
    ):
        pods = TwoPods(bed)
        pods.start_anchor()
        pods.start_mobile_node()
        pods.start_offload()
        bed.programs["bridge-p2"].wait_for("event=standing-by serving=p1 ", TIMEOUT)
        go(pods, 1)
        yield pods
        assert bed.errors() == []


def go(pods: TwoPods, link: int) -> None:
    """Move the mobile node to a foreign link and wait until its traffic goes direct."""
    pods.attach(link)
    wait_for(f"the binding is active on link {link}", lambda: is_active(pods, link))


def is_active(pods: TwoPods, link: int) -> bool:
    found = pods.binding()
    return bool(found and (found["state"], found["care_of_address"]) == ("active", at.care_of_address(link)))


def is_followed(pods: TwoPods, pod: str) -> bool:
    """Tell whether the controller has the binding cache of a pod as that of the owner."""
    (shown,) = pods.rest("GET", "/v1/home-agents")["home_agents"]
    return (shown["owner"]["name"], shown["status"], shown["snapshot"]) == (pod, "up", "held")


def goes_direct(pods: TwoPods, load: AnchorLoad) -> bool:
    """Tell whether none of the traffic between correspondent and mobile node passes the home link's router."""
    before = load.packets()
    assert int(pods.bed.run(*echo(10, at.HOME_ADDRESS), node="cn")) == 10
    return load.packets() == before


def test_bridges_follow_takeovers_and_a_former_owner_that_wakes_up_changes_nothing(
    pods: TwoPods, tmp_path: Path
) -> None:
    bed, load = pods.bed, AnchorLoad(pods.bed)
    programs, controller = bed.programs, bed.programs["controller"]

    traffic = Traffic(bed, tmp_path)
    start = time.time()
    bed.kill("p1")
    programs["p2"].wait_for("event=serving ", TIMEOUT)
    wait_for("the other pod's bridge has reported its cache", lambda: is_followed(pods, "p2"))
    assert goes_direct(pods, load)
    correspondent, mobile = traffic.stop()
    span = Span(start, time.time())
    assert len(mobile.sent) > 0
    assert lost(correspondent, mobile, span) == lost(mobile, correspondent, span) == []
    go(pods, 2)
    assert goes_direct(pods, load)

    pods.start_pod("p1").wait_for("event=standing-by serving=p2 ", TIMEOUT)
    programs["bridge-p1"].wait_for("event=standing-by serving=p2 ", TIMEOUT)
    stopped = [programs[name] for name in ("bridge-p2", "p2")]
    for each in stopped:
        each.send(signal.SIGSTOP)
    programs["p1"].wait_for("event=serving ", TIMEOUT)
    wait_for("the first pod's bridge has reported its cache", lambda: is_followed(pods, "p1"))
    go(pods, 1)
    since = controller.mark()
    marks = [each.mark() for each in stopped]
    for each, mark in zip(stopped, marks, strict=True):
        each.send(signal.SIGCONT)
        each.wait_for("event=standing-by serving=p1 ", TIMEOUT, mark)
    assert (is_active(pods, 1), is_followed(pods, "p1"), goes_direct(pods, load)) == (True, True, True)
    assert not [line for line in controller.lines[since:] if "event=binding-" in line or "event=home-agent-" in line]
