# SPDX-License-Identifier: Apache-2.0
"""What pods run, with the settings that the overlays give them: in network namespaces, with real programs."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.kubernetes import IMAGE, PATH, WITH_SECRETS, Deployment
from tests.support.mobility import CARE_OF_1, CARE_OF_2, HOME_ADDRESS
from tests.support.ovs import Ovs
from tests.support.pair_lab import PairLab
from tests.support.roaming import key_file, registers
from tests.support.waiting import wait_for

BIN = Path(sys.executable).parent
TIMEOUT = 30.0
LOOPBACK = ("127.0.0.1", "[::1]")  # a cluster of IPv4, and one of IPv6


class ControllerPod:
    """The controller as a Deployment has it, in the namespace of an Open vSwitch; `secrets`: of the overlay."""

    def __init__(self, ovs: Ovs, overlay: Path, directory: Path) -> None:
        self.ovs, self.secrets = ovs, overlay / "secrets"
        self.tls = (self.secrets / "ca.crt").exists()
        settings = overlay / "controller.conf"
        if not settings.exists():
            settings = overlay.parents[1] / "base" / "controller.conf"
        own = directory / "controller.conf"
        own.write_text(settings.read_text().replace("/run/secrets/hoaflow", str(self.secrets)))
        self.log = directory / "controller.log"
        with self.log.open("wb") as log:
            command = ovs.command(str(BIN / "hoaflow-controller"), "--config-file", str(own))
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def hoaflow(self, host: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Return the operator's command line, as docs/kubernetes.md has it."""
        access = ["--token-file", str(self.secrets / "operator.token")]
        access += ["--ca", str(self.secrets / "ca.crt")] if self.tls else []
        url = f"{'https' if self.tls else 'http'}://{host}:8080"
        command = self.ovs.command(str(BIN / "hoaflow"), "--controller", url, *access, *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)

    def answers(self, host: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.hoaflow(host, "bindings", "list").returncode == 0

    def connected(self) -> set[str]:
        """Return the datapath ids of the switches that are connected."""
        answer = json.loads(self.hoaflow(LOOPBACK[0], "--json", "routers", "list").stdout)
        return {router["dpid"] for router in answer["routers"] if router["connected"]}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT)


@pytest.fixture(params=WITH_SECRETS)
def pod(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ControllerPod]:
    deployment = Deployment(tmp_path)
    assert deployment.make_secrets(request.param).returncode == 0
    (directory := tmp_path / "ovs").mkdir()
    with Ovs(directory) as ovs:
        running = ControllerPod(ovs, deployment.overlay(request.param), tmp_path)
        try:
            yield running
        finally:
            running.stop()


def test_the_controller_is_reached_by_ipv4_and_ipv6(pod: ControllerPod) -> None:
    for host in LOOPBACK:
        wait_for(f"REST answers at {host}", lambda: pod.answers(host), TIMEOUT)  # noqa: B023 - called at once
    if pod.tls:  # the switches' certificates, as docs/kubernetes.md makes them
        pki = [str(CHECKOUT / "scripts" / "pki"), str(pod.secrets), "client", "switch-node-1"]
        subprocess.run(pki, check=True, timeout=TIMEOUT)
        files = (f"{pod.secrets}/{name}" for name in ("switch-node-1.key", "switch-node-1.crt", "ca.crt"))
        pod.ovs.vsctl("set-ssl", *files)
    for number, host in enumerate(LOOPBACK, 1):
        pod.ovs.add_bridge(f"br{number}", number)
        pod.ovs.vsctl("set-controller", f"br{number}", f"{'ssl' if pod.tls else 'tcp'}:{host}:6653")
    wait_for("both switches are connected", lambda: len(pod.connected()) == 2, TIMEOUT)
    assert " ERROR " not in pod.log.read_text()


# What a pod's network and files are before its containers run. eth0: the cluster's, with IPv6; home, core: Multus's.
POD = r"""
for link in eth0 home core; do
    ip link add "$link" type veth peer name "$link-peer"
    ip link set "$link" up
    ip link set "$link-peer" up
done
ip link set lo up
ip -6 address add fd00:1::5/64 dev eth0 nodad
ip -6 route add default via fd00:1::1 dev eth0
sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.proxy_ndp=1
mount -t overlay overlay -o "lowerdir=$1/etc:/etc" /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/secrets/hoaflow /var/lib/hoaflow
install -m 400 "$1/keys.toml" /run/secrets/hoaflow/keys.toml
"""
PROBE = "import urllib.request; print(urllib.request.urlopen('http://[fd00:1::5]:9103/readyz', timeout=10).read())"
# Its container is started twice, as after a crash: the network is the pod's and stays.
RUN = r"""
for start in first second; do
    kubernetes-home-agent > "$1/$start.log" 2>&1 &
    tries=0
    until python -c "$2"; do
        [ $((tries += 1)) -lt 100 ] && kill -0 $! || { cat "$1/$start.log" >&2; exit 1; }
        sleep 0.1
    done 2>/dev/null
    [ "$start" = second ] || { kill -KILL $!; wait $! || :; }
done
to() { ip -6 -o route get "$@"; }
to 2001:db8:2::2 from 2001:db8:99::1
to 2001:db8:2::2 from 2001:db8:99::100 iif home
to 2001:db8:2::2 from 2001:db8:77::1 iif core
to fd00:9::9
to fd00:9::9 from fd00:1::5
ip -6 rule
kubernetes-bridge
kill $!
wait $!
"""


def test_a_home_agents_pod_keeps_its_own_way_out(tmp_path: Path) -> None:
    """In a cluster with IPv6: mobile nodes' traffic leaves by the core, the pod's own by the cluster's network."""
    (settings := tmp_path / "etc" / "hoaflow").mkdir(parents=True)
    shutil.copy(CHECKOUT / "deploy/kubernetes/overlays/single-node/home-agent-0", settings)
    with (settings / "home-agent-0").open("a") as entry:
        entry.write("HOME_AGENT_OPTIONS='--log-format json'\nBRIDGE_OPTIONS=--help\n")
    (tmp_path / "keys.toml").write_text("")
    environment = os.environ | {"PATH": PATH, "INDEX": "0", "POD_IP": "fd00:1::5"}
    command = ["unshare", "--net", "--mount", "bash", "-ec", f"{POD}\n{RUN}", "pod", str(tmp_path), PROBE]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    routes = re.findall(r"^2001.*|^fd00.*", result.stdout, re.MULTILINE)
    by = [(found[1], found[2]) for route in routes if (found := re.search(r"via (\S+) dev (\S+)", route))]
    assert by == [("2001:db8:10::1", "core")] * 3 + [("fd00:1::1", "eth0")] * 2
    assert len(re.findall(r"^100[0-3]:", result.stdout, re.MULTILINE)) == 4  # once each, however often it starts
    # The options that its entry has are its parts'.
    assert "usage: ha-bridge" in result.stdout
    assert all(json.loads(line) for line in (tmp_path / "first.log").read_text().splitlines())


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_the_second_pod_of_an_address_takes_over(signal: str, tmp_path: Path) -> None:
    """Each has one link, the home link. A standby is ready for a probe that takes it for what it is."""
    with PairLab(tmp_path) as lab:
        first, second = lab.start("ha"), lab.start("hb")
        first.logged("event=serving")
        second.logged("event=standing-by serving=ha")
        assert lab.ready("ha") == (200, "ok\n")
        assert lab.ready("hb") == (200, "standing by: ha serves\n")
        node = lab.mobile_node("--keys", key_file(tmp_path), "--lifetime", "600")
        registers(lab, node, "m1", CARE_OF_1)
        assert lab.ping("cn", HOME_ADDRESS) == 3

        first.stop(kill=signal == "KILL")
        second.logged("event=serving")
        wait_for("the new owner is ready", lambda: lab.ready("hb") == (200, "ok\n"))
        assert lab.ping("cn", HOME_ADDRESS) == 3
        registers(lab, node, "m2", CARE_OF_2)
        assert lab.ping("cn", HOME_ADDRESS) == 3


def test_a_router_without_a_token_says_so() -> None:
    result = subprocess.run(
        [IMAGE / "kubernetes-router"], capture_output=True, text=True, timeout=TIMEOUT, env={"NODE": "node-9"}
    )
    assert result.returncode == 1
    assert "no token for node node-9: name it in `routers`" in result.stderr


def test_a_routers_options_are_its_parts() -> None:
    script = """
    mount -t tmpfs tmpfs /run
    mount --bind /proc/sys /proc/sys
    install -D /dev/null /run/secrets/hoaflow/token
    kubernetes-router
    """
    environment = {
        "PATH": PATH,
        **{"NODE": "node-1", "BRIDGE": "br0", "BACKEND": "auto", "HOME_AGENTS": "2001:db8:99::1"},
        **{"CONTROLLER": "http://127.0.0.1:8080", "SETUP_OPTIONS": "--help", "OPTIONS": "--help"},
    }
    command = ["unshare", "--net", "--mount", "bash", "-ec", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    assert result.returncode == 0, result.stderr
    assert re.findall(r"usage: hoaflow-router \w+", result.stdout) == [
        "usage: hoaflow-router setup",
        "usage: hoaflow-router run",
    ]
