# SPDX-License-Identifier: Apache-2.0
"""A bridge beside one of several pods: it speaks for the owner of the address, and is silent beside a standby."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_bridge.__main__ import main
from ha_bridge.commands import Announce, Send, Snapshot
from ha_bridge.model import Owner
from hoaflow.etcd import EtcdAccess, EtcdClient
from hoaflow.etcd.messages import delete, put
from hoaflow.home_agent.pods.keys import Keys, owner_value
from tests.support.bridge import HOA, HOME_AGENT, HOME_PREFIX, LINK_1, LINK_2, Terminal, bridge
from tests.support.bridge_controller import Controller
from tests.support.bridge_process import HomeAgent, arguments
from tests.support.bridge_world import Registration, World, down, hung
from tests.support.etcd import Etcd
from tests.support.pki import Authority

HERE, ELSEWHERE, AGAIN = Owner("ha", 7), Owner("hb", 12), Owner("ha", 20)
OWNER = Keys("lab", HOME_AGENT).owner
TLS = ["--cache", "etcds://[::1]:2379/lab"]
CERTIFICATE = ["--etcd-certificate", "/dev/null", "--etcd-key", "/dev/null"]


def owned() -> World:
    """Return a world in which the pod beside the bridge owns the address, and the controller knows its binding."""
    world = World(pods=True)
    world.cache[HOA] = Registration(LINK_1)
    world.home_agent.owned(HERE, here=True)
    world.run(1.0)
    assert world.care_of() == {HOA: LINK_1}
    return world


def told(world: World) -> list[Announce | Send | Snapshot]:
    """Return what the controller was told since the last call."""
    found = [each for each in world.commands if isinstance(each, Announce | Send | Snapshot)]
    world.commands.clear()
    return found


@pytest.mark.parametrize("beside", [None, ELSEWHERE], ids=["owner unknown", "another pod serves"])
def test_nothing_is_said_beside_a_standby(beside: Owner | None) -> None:
    world = World(pods=True, unreadable=down)
    if beside is not None:
        world.home_agent.owned(beside, here=False)
    world.run(60.0)
    assert world.commands == []


def test_whatever_is_said_names_the_owner() -> None:
    world = owned()
    world.cache[HOA] = Registration(LINK_2, sequence=2)
    world.run(60.0)
    said = told(world)
    assert {type(each) for each in said} == {Announce, Send, Snapshot}
    assert {each.owner for each in said} == {HERE}


def test_a_new_owner_is_silent_until_its_cache_has_been_read() -> None:
    world = World(pods=True, unreadable=down)
    world.home_agent.owned(HERE, here=True)
    world.run(5.0)
    assert told(world) == []
    world.unreadable = hung
    world.run(5.0)
    assert told(world) == []
    world.unreadable = lambda: None
    world.run(2.0)
    first, *_ = told(world)
    assert isinstance(first, Announce)
    assert (first.status, first.last_change is None) == ("up", False)


def test_an_owner_that_dies_is_said_to_be_down_until_another_one_is_known() -> None:
    world = owned()
    world.unreadable = down
    world.run(10.0)
    assert world.status == "ha-down"
    told(world)
    world.home_agent.owned(ELSEWHERE, here=False)
    world.run(60.0)
    assert told(world) == []


def test_a_reading_begun_under_a_former_ownership_counts_no_more() -> None:
    world = owned()
    world.cache[HOA] = Registration(LINK_2, sequence=2)
    world.home_agent.ask()
    world._start_due()  # so a reading is under way
    world.home_agent.owned(ELSEWHERE, here=False)
    world.home_agent.owned(AGAIN, here=True)
    told(world)
    world.unreadable = hung
    world.run(5.0)
    assert told(world) == []
    world.unreadable = lambda: None
    world.cache[HOA] = Registration(LINK_1, sequence=3)
    world.run(2.0)
    said = told(world)
    assert [type(each) for each in said[:2]] == [Announce, Snapshot], "what another owner has reported is not known"
    assert {each.owner for each in said} == {AGAIN}
    assert world.care_of() == {HOA: LINK_1}


def test_a_snapshot_of_a_former_ownership_is_not_the_first_of_the_next() -> None:
    world = owned()
    (member,) = world.members
    member._snapshot_due = True
    world.delay = 5.0
    world.run(1.0)  # so a snapshot is under way
    world.home_agent.owned(AGAIN, here=True)
    told(world)
    world.run(30.0)
    assert AGAIN in {each.owner for each in told(world) if isinstance(each, Snapshot)}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--protocol", "pmipv6"], "--cache is for home agents of mipv6"),
        (["--restore"], "--restore is for home agents that forget"),
        (["--etcd-ca", "/dev/null"], "--etcd-ca: only over TLS"),
        ([*TLS, "--etcd-user", "hoaflow"], "--etcd-password-file go together"),
        ([*TLS, "--etcd-ca", "/nowhere"], "--etcd-ca /nowhere: expected certificates in PEM: No such file"),
        ([*TLS, "--etcd-ca", "/dev/null"], "--etcd-ca /dev/null: expected certificates in PEM: "),
        ([*TLS, *CERTIFICATE], "--etcd-certificate /dev/null --etcd-key /dev/null: expected a certificate and its"),
        ([*TLS, "--etcd-user", "hoaflow", "--etcd-password-file", "/"], "--etcd-password-file /: Is a directory"),
    ],
)
def test_what_does_not_go_with_pods_is_refused(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--controller", "http://192.0.2.1:8080", "--home-agent", HOME_AGENT, "--home-prefix", HOME_PREFIX]
    with pytest.raises(SystemExit, match="2"):
        main([*own, "--cache", "etcd://127.0.0.1:2379/lab", *wrong])
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def etcd(tmp_path: Path, authority: Authority) -> Iterator[EtcdClient]:
    own = authority.etcd("etcd", "127.0.0.1")
    options = [f"--cert-file={own.certificate}", f"--key-file={own.key}"]
    with (
        Etcd(tmp_path / "etcd", members=1, options=options, scheme="https") as running,
        EtcdClient(running.endpoints, EtcdAccess(authority.certificate)) as client,
    ):
        yield client


def own(etcd: EtcdClient, pod: str) -> dict[str, object]:
    """Make a pod the owner, and return what its bridge has to say of that."""
    etcd.transact([], [put(OWNER, owner_value(pod, 0.0))])
    found = etcd.get(OWNER)
    assert found is not None
    return {"name": pod, "revision": found.revision}


def test_the_log_names_the_etcd_that_does_not_answer(controller: Controller, home_agent: HomeAgent) -> None:
    options = arguments(controller, home_agent.terminal.port, "--cache", "etcd://192.0.2.9:2379/lab")
    with bridge(*options, hiding=True) as process:
        assert "http://192.0.2.9:2379" in process.wait("etcd-unreachable")


def test_the_process_follows_the_owner_in_etcd(
    controller: Controller, home_agent: HomeAgent, etcd: EtcdClient, authority: Authority
) -> None:
    own(etcd, "hb")
    cache = etcd._endpoints[0].replace("https://", "etcds://") + "/lab"
    shared = ["--cache", cache, "--etcd-ca", str(authority.certificate), "--pod", "ha"]
    options = arguments(controller, home_agent.terminal.port, *shared)
    with bridge(*options) as process:
        assert "serving=hb" in process.wait("standing-by")
        here = own(etcd, "ha")
        process.wait("snapshot-sent")
        assert controller.home_agents[HOME_AGENT]["owner"] == here
        assert {str(body.get("owner")) for _, _, body in controller.requests} == {str(here)}

        # While another pod serves, the mobile node deregisters. What this one serves with next is not an emptied cache.
        own(etcd, "hb")
        process.wait("standing-by", count=2)
        home_agent.bindings.clear()
        home_agent.terminal.close()
        home_agent.terminal = Terminal(home_agent.text, port=home_agent.terminal.port)
        etcd.transact([], [delete(OWNER)])
        again = own(etcd, "ha")
        controller.wait(lambda: controller.home_agents[HOME_AGENT].get("owner") == again)
        controller.wait(
            lambda: any(path.endswith("/bindings") and body["owner"] == again for _, path, body in controller.requests)
        )
        assert not controller.bindings
