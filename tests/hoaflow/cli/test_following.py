# SPDX-License-Identifier: Apache-2.0
"""Commands that go on: events and watch, over restarts and silence."""

import json
import socket
from pathlib import Path

from tests.support.bench import HOME_ADDRESS, SECOND, Bench, binding
from tests.support.controller import OPENFLOW_PORT
from tests.support.operator import Operator
from tests.support.operator_bench import COMPLETE, OTHER, post
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

# Of one test alone: the order of tests is free, and what was removed refuses late reports.
THIRD = "2001:db8:99::300"


def test_events_go_on_over_a_restart_of_the_controller(own_bench: Bench, own_hoaflow: Operator, tmp_path: Path) -> None:
    with own_hoaflow.follow("events", "--after", "0", "--json", directory=tmp_path) as events:
        events.wait_for('"binding-active"')
        post(own_bench, binding(SECOND, 2))
        first = json.loads(events.wait_for('"binding-changed"'))
        assert first["care_of_address"] == SECOND
        assert first["time"].endswith("Z")
        own_bench.controller.kill()
        wait_for("the loss is noticed", lambda: "trying again" in events.err)
        own_bench.controller.start()
        wait_for("the switch is back", lambda: events.out.count('"router-connected"') == 2)
        ids = [json.loads(line)["id"] for line in events.out.splitlines()]
        assert ids == sorted(set(ids))
        wait_for("it says so", lambda: "connected again" in events.err)
        assert events.interrupt() == 130
        assert "Traceback" not in events.err


def test_events_of_late_are_printed_and_that_is_it(bench: Bench, hoaflow: Operator) -> None:
    last = hoaflow.json_lines("events", "--no-follow")[-1]["id"]
    post(bench, binding(home_address=THIRD))
    after = ["--after", str(last), "--no-follow"]
    (added,) = hoaflow("events", "--name", "binding-added,binding-removed", *after).out.splitlines()
    assert added.split()[1] == "binding-added"
    assert f"home_address={THIRD} care_of_address=2001:db8:2::2" in added
    assert {event["name"] for event in hoaflow.json_lines("events", *after)} >= {"binding-added"}
    assert "there is no event 'x'" in hoaflow("events", "--name", "x", status=1).err


def test_watching_tells_of_each_binding_and_then_of_what_changes(
    own_bench: Bench, own_hoaflow: Operator, tmp_path: Path
) -> None:
    with own_hoaflow.follow("bindings", "watch", directory=tmp_path) as watch:
        watch.wait_for("present", HOME_ADDRESS, "active")
        post(own_bench, binding(home_address=OTHER))
        watch.wait_for("added", OTHER)
        wait_for("it is active", lambda: watch.wait_for(OTHER, "active"))
        post(own_bench, binding(home_address=OTHER, care_of_address=SECOND, sequence=2))
        watch.wait_for("changed", OTHER, SECOND, "active")
        own_bench.controller.call("DELETE", f"/v1/bindings/{OTHER}")
        watch.wait_for("removed", OTHER, "deleted")
        before = len(watch.out.splitlines())
        own_bench.controller.kill()
        own_bench.controller.start()
        watch.wait_for("removed", HOME_ADDRESS)
        own_bench.announce(lease=60)
        own_bench.snapshot(binding(SECOND))
        own_bench.agent(0x1A)
        watch.wait_for(HOME_ADDRESS, SECOND, "active")
        assert any("added" in line and HOME_ADDRESS in line for line in watch.out.splitlines()[before:])
        assert watch.interrupt() == 130
        assert "Traceback" not in watch.err


def test_watching_through_a_filter_sees_a_binding_come_and_leave(
    own_bench: Bench, own_hoaflow: Operator, tmp_path: Path
) -> None:
    with own_hoaflow.follow("bindings", "watch", "--state", "active", "--json", directory=tmp_path) as watch:
        present = json.loads(watch.wait_for('"present"'))
        assert present["binding"]["home_address"] == HOME_ADDRESS
        own_bench.ovs.vsctl("del-controller", "br0")
        changed = json.loads(watch.wait_for('"changed"'))
        assert changed["binding"]["state"] == "pending"
        own_bench.ovs.vsctl("set-controller", "br0", f"tcp:127.0.0.1:{OPENFLOW_PORT}")
        assert json.loads(watch.wait_for('"added"'))["binding"]["state"] == "active"


def test_a_controller_that_says_nothing_is_given_up(own_hoaflow: Operator, ovs: Ovs) -> None:
    with ovs.inside(), socket.create_server(("127.0.0.1", 8080)):
        completed = own_hoaflow.shell(COMPLETE.format(line="hoaflow bindings show 2"))
    assert completed == (0, "", "")
