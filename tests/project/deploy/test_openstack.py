# SPDX-License-Identifier: Apache-2.0
"""deploy/openstack: the user data is what cloud-init takes, and starts what is there."""

import os
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.access.tokens import read_tokens
from tests.support.checkout import CHECKOUT
from tests.support.machine import Machine
from tests.support.waiting import wait_for
from topologies.waiting import patient

USER_DATA = sorted((CHECKOUT / "deploy" / "openstack").glob("*.yaml"))
CLOUD_INIT = CHECKOUT / "build" / "cloud-init"


@pytest.fixture(scope="module")
def cloud_init() -> dict[str, str]:
    """Provide an environment in which Debian's cloud-init, which is not installed, can be imported."""
    subprocess.run(CHECKOUT / "scripts" / "setup-tests", check=True, timeout=300)
    return os.environ | {"PYTHONPATH": str(CLOUD_INIT / "usr/lib/python3/dist-packages")}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a folder with the user data, filled in by the commands of docs/openstack.md."""
    folder = tmp_path_factory.mktemp("openstack") / "hoaflow"
    folder.mkdir()
    for name in ("deploy", "scripts"):
        (folder / name).symlink_to(CHECKOUT / name)
    text = (CHECKOUT / "docs" / "openstack.md").read_text()
    (commands,) = re.findall(r"\n((?: {4}.*\n|\n)*    fill\(\).*\n(?: {4}.*\n|\n)*)", text)
    subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, timeout=patient(60))
    assert {path.name for path in folder.iterdir()} == {"deploy", "scripts"}  # no secret lies in the checkout
    return folder.parent / "my-cloud"


def check(path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloudinit.cmd.main", "schema", "--config-file", str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("path", USER_DATA, ids=lambda path: path.stem)
def test_cloud_init_takes_it(cloud_init: dict[str, str], path: Path) -> None:
    result = check(path, cloud_init)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Valid cloud-config: {path}" in result.stdout


@pytest.mark.parametrize("name", ["r1", "ha"])
def test_filled_in_it_has_no_gaps(cloud_init: dict[str, str], filled: Path, name: str) -> None:
    path = filled / f"{name}.yaml"
    assert check(path, cloud_init).returncode == 0
    assert not re.findall(r"\b[A-Z]+_(?:TOKEN|CERTIFICATE|KEY)\b(?!_|=)", path.read_text())


def test_what_is_made_is_for_its_owner_alone(filled: Path) -> None:
    for path in filled.iterdir():
        assert path.stat().st_mode & 0o077 == 0 or path.suffix == ".crt", path
    tokens = {token.name: token.role.value for token in read_tokens(filled / "tokens.toml").values()}
    assert tokens == {"r1": "router", "bridge": "bridge", "operator": "admin"}


def test_the_commands_have_the_addresses_of_the_user_data() -> None:
    """A port that is made with another address than its VM uses would drop what that sends."""
    text = (CHECKOUT / "docs" / "openstack.md").read_text()
    data = {path.stem: path.read_text() for path in USER_DATA}
    ports = dict(re.findall(r"^    port \w+ (\S+) (\S+)$", text, re.MULTILINE))
    assert list(ports.values()) == ["ha-home", "ha-core", "r1-access", "r1-core"]
    for address, port in ports.items():
        assert re.search(rf"\b{re.escape(address)}(?![\w:])", data["router" if port.startswith("r1") else "home-agent"])
        prefix = address.rpartition("::")[0] + "::/64"
        assert f"={prefix}" in text, f"no network for {port}"


def test_what_is_wrong_is_found(cloud_init: dict[str, str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("#cloud-config\nwrite_files: yes please\n")
    assert check(wrong, cloud_init).returncode == 1


@pytest.mark.parametrize("path", USER_DATA, ids=lambda path: path.stem)
def test_what_it_names_is_in_the_checkout(path: Path) -> None:
    data: dict[str, Any] = yaml.safe_load(path.read_text())
    commands = " ".join(word for command in data["runcmd"] for word in command)
    named = re.findall(r"/usr/src/hoaflow/(\S+)", commands)
    assert len(named) >= 2
    for name in named:
        assert list(CHECKOUT.glob(name)), name
    # What a unit reads is written with everything that it expands.
    written = {file["path"]: file["content"] for file in data["write_files"]}
    units = data["runcmd"][-1][3:]
    assert len(units) == 3
    for unit in units:
        text = written.get(f"/etc/systemd/system/{unit}.service") or shipped(unit)
        for environment in re.findall(r"EnvironmentFile=-?(\S+)", text):
            content = written[environment.replace("%i", "br0")] + "".join(re.findall(r"^Environment=.*", text, re.M))
            for variable in re.findall(r"\$\{?([A-Z_]+)", "".join(re.findall(r"ExecStart=(?:.*\\\n)*.*", text))):
                assert variable == "STATE_DIRECTORY" or f"{variable}=" in content, variable


def shipped(unit: str) -> str:
    """Return a unit of deploy/systemd."""
    return (CHECKOUT / "deploy" / "systemd" / (re.sub(r"@.*", "@", unit) + ".service")).read_text()


# What Debian's openvswitch-switch starts, but without a kernel module. Its database outlives a reboot.
OPEN_VSWITCH = """
[Service]
Type=forking
PIDFile=/run/openvswitch/ovs-vswitchd.pid
RuntimeDirectory=openvswitch
ExecStartPre=bash -c '[ -e /etc/openvswitch/test.db ] || ovsdb-tool create /etc/openvswitch/test.db'
ExecStartPre=ovsdb-server --detach --pidfile --remote=punix:/run/openvswitch/db.sock /etc/openvswitch/test.db
ExecStartPre=ovs-vsctl --no-wait init
ExecStart=ovs-vswitchd --disable-system --detach --pidfile
"""
INTERFACES = {"ens4": "fa:16:3e:00:00:04", "ens5": "fa:16:3e:00:00:05"}


class Vm:
    """A VM made from the user data: its files are written, its interfaces there, its packages installed."""

    def __init__(self, machine: Machine, user_data: Path) -> None:
        self.machine = machine
        data = yaml.safe_load(user_data.read_text())
        for file in data["write_files"]:
            coded = file.get("encoding") == "b64"
            content = b64decode(file["content"], validate=True).decode() if coded else file["content"]
            content = content.replace("fail-mode=secure", "fail-mode=secure datapath_type=netdev")
            machine.write(file["path"], content, int(file.get("permissions", "0644"), 8))
        machine.write("/etc/systemd/system/ovs-vswitchd.service", OPEN_VSWITCH)
        machine.write("/etc/systemd/system/ovsdb-server.service", "[Service]\nType=oneshot\nExecStart=true\n")
        self.units: list[str] = data["runcmd"][-1][3:]
        for unit in self.units:
            if not any(file["path"].endswith(f"/{unit}.service") for file in data["write_files"]):
                machine.write(f"/etc/systemd/system/{re.sub('@.*', '@', unit)}.service", shipped(unit))
        machine.run("systemctl", "daemon-reload")
        for interface, address in INTERFACES.items():
            machine.run("ip", "link", "add", interface, "address", address, "mtu", "1450", "type", "veth")
        # OpenStack's metadata has the ports' addresses, and cloud-init gives them to the interfaces at first.
        machine.run("ip", "-6", "address", "add", "2001:db8:2::1/64", "dev", "ens4", "nodad")

    def run(self, *command: str) -> str:
        """Run a command in the VM and return what it prints."""
        return self.machine.run(*command)

    def start(self, *units: str) -> None:
        """Start units. Fails with their journal."""
        try:
            self.run("systemctl", "start", *units)
        except RuntimeError as error:
            raise AssertionError(f"{error}\n{self.machine.journal('*')}") from None

    def reboot(self, *units: str) -> None:
        """All that a reboot forgets: processes, addresses, routes, namespaces, what the datapath has."""
        self.run("systemctl", "stop", *reversed(units), "openvswitch-switch", "ovs-vswitchd")
        self.run("ip", "-all", "netns", "delete")
        for bridge in self.run("bash", "-c", "cd /sys/class/net; ls -d access core br0 || :").split():
            self.run("ip", "link", "delete", bridge)
        for interface in INTERFACES:
            self.run("ip", "link", "set", interface, "down")
            self.run("ip", "-6", "address", "flush", "dev", interface)
        self.run("ip", "-6", "route", "flush", "proto", "boot")
        assert "2001:db8" not in self.run("ip", "-6", "address") + self.run("ip", "-6", "route")
        self.start(*units)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        machine.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        yield machine


def test_a_router_is_the_same_after_a_reboot(machine: Machine, filled: Path) -> None:
    vm = Vm(machine, filled / "r1.yaml")
    units = ["hoaflow-bridge", "hoaflow-router-setup@br0"]
    assert vm.units == [*units, "hoaflow-router@br0"]

    def state() -> dict[str, str]:
        show = ("bridge", "br0", "fail_mode", "other_config", "protocols")
        return {
            "bridge": vm.run("ovs-vsctl", "get", *show),
            "controller": vm.run("ovs-vsctl", "get-controller", "br0"),
            "certificates": vm.run("ovs-vsctl", "get-ssl"),
            "addresses": vm.run("bash", "-c", "ip -o -6 address show scope global | awk '{print $2, $4}' | sort"),
            "routes": vm.run("ip", "-6", "route", "show", "2001:db8:99::/64"),
            "links": vm.run("bash", "-c", "cd /sys/class/net; grep . {access,core}/{address,mtu}"),
            "flows": vm.run("ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", "br0"),
        }

    vm.start(*units)
    first = state()
    assert first["bridge"].splitlines()[0] == "secure"
    assert first["controller"] == "ssl:controller.example.org:6653\n"
    assert "/etc/hoaflow/switch.key" in first["certificates"]
    assert "access 2001:db8:2::1/64\ncore 2001:db8:10::11/64\n" in first["addresses"]
    assert "ens4" not in first["addresses"]  # the bridge's ports have none of their own
    assert first["routes"].startswith("2001:db8:99::/64 via 2001:db8:10::9 dev core")
    for interface, name in zip(INTERFACES, ("access", "core"), strict=True):
        assert f"{name}/address:{INTERFACES[interface]}\n{name}/mtu:1450\n" in first["links"]
    assert "priority=1 actions=NORMAL" in first["flows"]
    vm.reboot(*units)
    assert state() == first
    vm.run("/opt/hoaflow/bin/hoaflow-router", "status", "--bridge", "br0")  # exit status 0: nothing is missing


def test_a_home_agent_is_the_same_after_a_reboot(machine: Machine, filled: Path) -> None:
    vm = Vm(machine, filled / "ha.yaml")
    units = ["hoaflow-network", "hoaflow-ha"]
    assert vm.units == [*units, "ha-bridge"]

    def state() -> tuple[str, str]:
        return vm.run("ip", "-o", "-6", "address", "show", "scope", "global"), vm.run("ip", "-6", "route")

    vm.run("ip", "-6", "address", "flush", "dev", "ens4")
    vm.start(*units)
    wait_for("its address is there", lambda: "2001:db8:99::1" in state()[0])
    assert "2001:db8:10::9/64" in state()[0]
    assert "2001:db8:2::/64 via 2001:db8:10::11 dev ens5" in state()[1]
    vm.reboot(*units)
    wait_for("its address is there again", lambda: "2001:db8:99::1" in state()[0])
    assert "2001:db8:10::9/64" in state()[0]
    assert "2001:db8:2::/64 via 2001:db8:10::11 dev ens5" in state()[1]
