# SPDX-License-Identifier: Apache-2.0
"""The systemd units of deploy/: sound, confined, and under a real systemd the programs do their work in them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.access.tokens import WrongTokens, read_tokens
from hoaflow.addresses import parse_prefix
from hoaflow.mobility.authentication import load_keys
from hoaflow.pmipv6.mobile_nodes import load_mobile_nodes
from tests.support.machine import Machine
from tests.support.waiting import wait_for
from topologies.waiting import patient

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
# What `systemd-analyze security` may give at most: 0 is locked in, 10 has all that root has. What makes network
# namespaces can't be confined to a file system of its own, and needs CAP_SYS_ADMIN.
EXPOSURE = {
    "hoaflow-controller.service": 1.2,
    "ha-bridge.service": 1.5,
    "hoaflow-fa.service": 2.6,
    "hoaflow-ha.service": 2.4,
    "hoaflow-lma.service": 2.4,
    "hoaflow-mag.service": 2.4,
    "hoaflow-router@.service": 3.1,
    "hoaflow-router-setup@.service": 4.9,
}
SETTINGS = "/etc/hoaflow/controller.conf"
# The machine's Open vSwitch, as the distribution's needs a kernel module.
OPEN_VSWITCH = """
[Service]
Type=forking
RuntimeDirectory=openvswitch
ExecStartPre=ovsdb-tool create /run/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
ExecStartPre=ovsdb-server --detach --pidfile --remote=punix:/run/openvswitch/db.sock /run/openvswitch/conf.db
ExecStartPre=ovs-vsctl --no-wait init
ExecStart=ovs-vswitchd --disable-system --detach --pidfile
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Provide a machine with the units and the example configuration, as docs/install.md has them installed."""
    with Machine(tmp_path_factory.mktemp("systemd")) as machine:
        for unit in UNITS:
            machine.write(f"/etc/systemd/system/{unit.name}", unit.read_text())
        machine.write("/usr/lib/sysusers.d/hoaflow.conf", (DEPLOY / "systemd/hoaflow.sysusers").read_text())
        for path in (DEPLOY / "etc").iterdir():
            content = path.read_text().replace("192.0.2.1", "127.0.0.1")
            machine.write(f"/etc/hoaflow/{path.name}", content, 0o600 if "keys" in path.name else 0o644)
        machine.write("/etc/systemd/system/ovs-vswitchd.service", OPEN_VSWITCH)
        machine.run("systemd-sysusers")
        machine.run("systemctl", "daemon-reload")
        yield machine


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_confined(unit: Path) -> None:
    command = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={EXPOSURE[unit.name] * 10:.0f}",
        str(unit),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("unit", "most"), EXPOSURE.items())
def test_the_documentation_says_how_far_a_unit_is_confined(unit: str, most: float) -> None:
    page = (DEPLOY.parent / "docs/security.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{unit.removesuffix('.service')}` |"))
    assert row.endswith(f"| {most} |")


def test_the_example_of_tokens_is_right_but_for_the_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    text = (DEPLOY / "etc/tokens.toml").read_text()
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(WrongTokens, match="expected 20 or more letters"):
        read_tokens(path)  # nobody shall be let in by an example
    for number in range(text.count('"..."')):
        text = text.replace('"..."', f'"{number:032x}"', 1)
    path.write_text(text)
    assert [caller.name for caller in read_tokens(path).values()] == ["bridge-1", "router-1", "operator"]


@pytest.mark.parametrize(
    ("name", "peer"),
    [("keys.toml", "2001:db8:99::100"), ("lma-keys.toml", "2001:db8:2::2"), ("mag-keys.toml", "2001:db8:98::1")],
)
def test_the_examples_of_keys_are_right(tmp_path: Path, name: str, peer: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text((DEPLOY / "etc" / name).read_text())
    path.chmod(0o600)
    assert list(load_keys(path)) == [peer]


def test_the_examples_of_an_anchor_and_its_gateway_are_right_together() -> None:
    (node,) = load_mobile_nodes(DEPLOY / "etc/mobile-nodes.toml").values()
    lma, mag = (
        dict(line.split("=", 1) for line in (DEPLOY / "etc" / name).read_text().splitlines() if "=" in line)
        for name in ("lma.env", "mag.env")
    )
    assert all(parse_prefix(lma["HOME_PREFIX"]).contains(parse_prefix(prefix)) for prefix in node.prefixes)
    assert mag["LOCAL_MOBILITY_ANCHOR"] == lma["LOCAL_MOBILITY_ANCHOR"]


def test_the_example_of_settings_is_right(machine: Machine) -> None:
    said = machine.run("/opt/hoaflow/bin/hoaflow", "check-config", "--no-connect", "--config-file", SETTINGS)
    assert "wrong" not in said
    assert "ok     REST" in said


def test_the_units_are_sound(machine: Machine) -> None:
    names = [unit.name.replace("@.", "@br0.") for unit in UNITS]
    assert machine.run("bash", "-c", 'systemd-analyze verify --man=no "$@" 2>&1', "verify", *names) == ""


def test_all_parts_do_their_work_in_their_units(machine: Machine) -> None:
    machine.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    machine.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1-peer")
    machine.run("ip", "link", "set", "eth1", "up")
    machine.run("ip", "link", "set", "eth1-peer", "up")
    machine.run("ip", "address", "add", "2001:db8:99::1/64", "dev", "eth1", "nodad")
    machine.run("systemctl", "start", "ovs-vswitchd")
    bridge = ["br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "protocols=OpenFlow13", "fail-mode=secure"]
    machine.run("ovs-vsctl", "add-br", *bridge, "--", "set-controller", "br0", "tcp:127.0.0.1:6653")
    machine.run("ip", "link", "set", "br0", "up")
    machine.run("systemctl", "start", "hoaflow-controller", "hoaflow-ha", "ha-bridge", "hoaflow-router@br0")
    try:
        wait_for("the agent is alive", lambda: " alive " in hoaflow(machine, "routers"))
        wait_for("the snapshot is held", lambda: " held " in hoaflow(machine, "home-agents"))
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{machine.journal('*')}") from None
    assert "hoaflow-" in machine.run("ip", "netns", "list"), "the endpoint's namespace is seen outside its unit"
    assert machine.run("stat", "-c", "%U", f"/proc/{main_pid(machine, 'ha-bridge')}").strip() == "hoaflow"
    machine.run("systemctl", "reload", "hoaflow-controller")
    machine.run("kill", "-KILL", main_pid(machine, "ha-bridge"))
    wait_for("the bridge is back", lambda: "event=started" in machine.journal("ha-bridge").partition("Scheduled")[2])
    for unit in ("hoaflow-controller", "hoaflow-ha", "ha-bridge", "hoaflow-router@br0"):
        assert machine.run("systemctl", "is-active", unit) == "active\n", machine.journal(unit)
        machine.run("systemctl", "stop", unit)
        assert "Traceback" not in machine.journal(unit)
        assert machine.run("systemctl", "show", "--property=Result", unit) == "Result=success\n", machine.journal(unit)


def test_a_home_agent_of_mobile_ipv4_does_its_work_with_what_its_file_adds(machine: Machine) -> None:
    more = (DEPLOY / "systemd" / "hoaflow-ha-mipv4.conf").read_text()
    machine.write("/etc/systemd/system/hoaflow-ha.service.d/mipv4.conf", more)
    settings = "HOME_AGENT=10.99.0.1\nHOME_PREFIX=10.99.0.0/24\nHOME_LINK=home\nOPTIONS=--protocol mipv4\n"
    machine.write("/etc/hoaflow/home-agent.env", settings)
    machine.write("/etc/hoaflow/keys.toml", f'["10.99.0.100"]\nspi = 256\nkey = "{"0" * 32}"\n', 0o600)
    machine.run("ip", "link", "add", "home", "type", "veth", "peer", "name", "home-peer")
    machine.run("ip", "link", "set", "home-peer", "up")
    machine.run("ip", "link", "set", "home", "up")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "hoaflow-ha")
    started = "event=started program=hoaflow-ha home_agent=10.99.0.1"
    try:
        wait_for("it serves", lambda: started in machine.journal("hoaflow-ha"))
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{machine.journal('hoaflow-ha')}") from None
    machine.run("systemctl", "stop", "hoaflow-ha")
    assert machine.run("systemctl", "show", "--property=Result", "hoaflow-ha") == "Result=success\n"


def test_wrong_settings_are_not_tried_again(machine: Machine) -> None:
    machine.write("/etc/hoaflow/bridge.env", "HOAFLOW_CONTROLLER=here\nHOME_AGENT=2001:db8:99::1\nHOME_PREFIX=::/0\n")
    machine.run("systemctl", "start", "ha-bridge")

    def shown() -> str:
        return machine.run("systemctl", "show", "--property=ActiveState,ExecMainStatus,NRestarts", "ha-bridge")

    wait_for("it has ended", lambda: "ActiveState=failed" in shown())
    assert "ExecMainStatus=2\n" in shown()
    assert "NRestarts=0\n" in shown()


def hoaflow(machine: Machine, *arguments: str) -> str:
    """Return what the command line says, in the machine; nothing while the controller can't be reached."""
    return machine.run("bash", "-c", '/opt/hoaflow/bin/hoaflow "$@" || [ $? = 3 ]', "hoaflow", *arguments)


def main_pid(machine: Machine, unit: str) -> str:
    """Return the number of a unit's process, in the machine."""
    return machine.run("systemctl", "show", "--property=MainPID", "--value", unit).strip()
