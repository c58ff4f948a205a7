# SPDX-License-Identifier: Apache-2.0
"""docker-compose.yml with a real engine: a mobile node roams, parts are killed, and nothing is left in the end.

The tests of this file are one story, in this order.
"""

import json

import pytest

from tests.containers.engine import Engine
from tests.containers.system import HOME_ADDRESS, IMAGE, PROJECT, REVISION, System, build_etcd_image, wait

HOME_AGENT_LOSS: dict[str, dict[str, tuple[int, int]]] = {}


def killed_under_traffic(system: System) -> dict[str, tuple[int, int]]:
    """Kill the home agent while traffic flows; return packets (lost, sent) by sender until it is back."""
    with system.traffic() as stop:
        system.kill("home-agent")
        return stop()


def test_the_image_holds_what_runs_and_no_compiler(engine: Engine, system: System) -> None:
    found = engine.docker(
        "run", "--rm", "--network", "none", IMAGE, "sh", "-c", "id -un; which gcc cc make pip || true"
    )
    assert found.split() == ["hoaflow"]
    anchors = ("hoaflow-ha", "hoaflow-fa", "hoaflow-lma", "hoaflow-mag")
    for command in ("hoaflow-controller", "ha-bridge", *anchors, "hoaflow-router", "hoaflow"):
        assert "usage" in engine.docker("run", "--rm", "--network", "none", IMAGE, command, "--help").lower()
    size = int(engine.docker("image", "inspect", "--format", "{{.Size}}", IMAGE))
    base = int(engine.docker("image", "inspect", "--format", "{{.Size}}", engine.base_image()))
    labels = json.loads(engine.docker("image", "inspect", "--format", "{{json .Config.Labels}}", IMAGE))
    assert labels["org.opencontainers.image.revision"] == REVISION
    print(f"image: {size / 1e6:.0f} MB, {(size - base) / 1e6:.0f} MB of it on top of the base image")


@pytest.mark.parametrize(
    ("service", "user", "capabilities"),
    [
        ("controller", "hoaflow", []),
        ("cli", "hoaflow", []),
        ("bridge", "root", ["NET_ADMIN"]),
        ("home-agent", "root", ["NET_ADMIN", "NET_RAW"]),
        ("ha", "hoaflow", []),
        ("r1", "root", ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]),
        ("mn", "root", ["NET_ADMIN", "NET_RAW"]),
    ],
)
def test_each_part_has_the_rights_it_needs(system: System, service: str, user: str, capabilities: list[str]) -> None:
    known = system.inspect(service)
    assert known["HostConfig"]["Privileged"] is False
    assert known["HostConfig"]["CapDrop"] == ["ALL"]
    assert sorted(known["HostConfig"]["CapAdd"] or []) == capabilities
    assert system.run(service, "id", "-un").strip() == user


def test_the_dashboard_is_at_the_published_port(system: System) -> None:
    assert "<title>hoaflow</title>" in system.published("/", token=False)


def test_without_offload_a_killed_home_agent_is_noticed(system: System) -> None:
    """The figure beside the one that follows: what a mobile node without hoaflow loses."""
    system.compose("stop", "bridge")
    wait(lambda: "event=lease-lapsed" in system.log("controller"), "the lease does not lapse")
    system.roam("link2")
    explained = system.run("cli", "hoaflow", "explain", HOME_ADDRESS)  # also without a bridge
    HOME_AGENT_LOSS["via the home agent"] = killed_under_traffic(system)
    system.compose("start", "bridge")
    assert HOME_ADDRESS in explained


def test_a_handover_goes_direct(system: System) -> None:
    wait(lambda: system.binding_state() == ("active", "2001:db8:3::100"), "link2 is not offloaded")
    system.roam("link1")
    wait(lambda: system.binding_state() == ("active", "2001:db8:2::100"), "link1 is not offloaded")
    system.roam("link2")
    wait(lambda: system.binding_state() == ("active", "2001:db8:3::100"), "link2 is not offloaded")


def test_an_offloaded_mobile_node_does_not_notice_a_killed_home_agent(system: System) -> None:
    registrations = system.registrations()
    HOME_AGENT_LOSS["direct"] = killed_under_traffic(system)
    for path, loss in HOME_AGENT_LOSS.items():
        print(
            f"home agent killed, traffic {path}:", *(f"{sender} lost {n} of {of}" for sender, (n, of) in loss.items())
        )
    assert {sender: lost for sender, (lost, _) in HOME_AGENT_LOSS["direct"].items()} == {"cn": 0, "mn": 0}
    assert all(sent > 100 for _, sent in HOME_AGENT_LOSS["direct"].values())
    # Nobody had to register again: its bindings, and their sequence numbers, are back.
    assert system.registrations() == registrations
    assert "2001:db8:3::100" in system.bindings()
    wait(lambda: system.log("bridge").count("event=up ") >= 2, "the bridge does not tell that it is back")
    assert "event=ha-down" in system.log("bridge")
    assert f"home_address={HOME_ADDRESS}" in system.log("controller")  # a laboratory's logs hide nobody
    assert system.binding_state() == ("active", "2001:db8:3::100")


@pytest.mark.parametrize("service", ["r2", "controller"])
def test_a_killed_part_comes_back(system: System, service: str) -> None:
    system.kill(service)
    wait(lambda: system.binding_state() == ("active", "2001:db8:3::100"), "not offloaded again")
    with system.traffic() as stop:
        assert {sender: lost for sender, (lost, _) in stop().items()} == {"cn": 0, "mn": 0}


def test_it_goes_home(system: System) -> None:
    system.roam("home")
    wait(lambda: system.binding_state() is None, "the binding is not removed")
    with system.traffic() as stop:
        assert {sender: lost for sender, (lost, _) in stop().items()} == {"cn": 0, "mn": 0}


def test_three_controllers_go_on_when_one_of_them_is_killed(engine: Engine, system: System) -> None:
    """deploy/image/cluster.env, with Debian's etcd: no packet is lost, and a handover goes direct."""
    etcd = build_etcd_image(engine)
    system.compose("--env-file", "deploy/image/cluster.env", "up", "-d", ETCD_IMAGE=etcd)
    for service in ("etcd", "controller", "controller-2", "controller-3", "r1", "r2", "bridge"):
        system.wait_healthy(service)
    wait(lambda: {each["master"] for each in system.masters()} != {None}, "the routers have no masters")
    system.roam("link1")
    wait(lambda: system.binding_state() == ("active", "2001:db8:2::100"), "link1 is not offloaded")
    killed = system.masters()[0]["master"]
    with system.traffic() as stop:
        system.kill(killed)
        assert {sender: lost for sender, (lost, _) in stop().items()} == {"cn": 0, "mn": 0}
    system.roam("link2")
    wait(lambda: system.binding_state() == ("active", "2001:db8:3::100"), "link2 is not offloaded")


def test_a_home_agent_of_ones_own(engine: Engine, system: System) -> None:
    """The profile `umip`: another image takes the place of the home agent, in the same network namespace."""
    system.compose("down", "--timeout", "5")
    system.compose("up", "-d", COMPOSE_PROFILES="umip", HA_IMAGE=IMAGE)
    of_project = f"label=com.docker.compose.project={PROJECT}"
    template = '{{.Label "com.docker.compose.service"}}'
    made = engine.docker("ps", "--all", "--filter", of_project, "--format", template).split()
    assert "umip" in made
    assert "home-agent" not in made
    owner = f"container:{system.inspect('ha')['Id']}"
    assert system.inspect("umip")["HostConfig"]["NetworkMode"] == system.inspect("bridge")["HostConfig"]["NetworkMode"]
    assert system.inspect("umip")["HostConfig"]["NetworkMode"] == owner


def test_nothing_is_left(engine: Engine, system: System) -> None:
    system.compose("down", "--volumes", "--timeout", "5")
    label = f"label=com.docker.compose.project={PROJECT}"
    for kind in ("container", "network", "volume"):
        everything = ["--all"] if kind == "container" else []
        assert engine.docker(kind, "ls", *everything, "--filter", label, "--quiet") == "", kind
