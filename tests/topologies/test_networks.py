# SPDX-License-Identifier: Apache-2.0
"""The topologies under plain `mn`, the delay line, and what a sandbox leaves behind."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.waiting import wait_for
from topologies.processes import Process, ProcessError
from topologies.sandbox import Sandbox
from topologies.waiting import patient

# When something goes wrong, `mn` kills by name and empties /tmp of logs: here it sees its own of both only.
CAGE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture
def sandbox() -> Iterator[None]:
    """Run the test in a network of its own."""
    with Sandbox():
        yield


def mn(topology: str, *options: str, test: str = "none", commands: str = "") -> str:
    """Return what `mn` prints that builds a topology (with its parameters), runs a test, then commands of its CLI.

    It runs elsewhere than in the checkout.
    """
    # The checkout may itself lie in /tmp.
    script = (
        'mount --bind "$0" /mnt && mount -t tmpfs tmpfs /tmp && mkdir -p "$0" && mount --bind /mnt "$0" && '
        'cd /tmp && exec mn "$@" --post /dev/stdin 2>&1'
    )
    file = CHECKOUT / "topologies" / f"{topology.partition(',')[0]}.py"
    arguments = ["--custom", str(file), "--topo", topology, *options, "--test", test]
    command = [*CAGE, "sh", "-c", script, str(CHECKOUT), *arguments]
    result = subprocess.run(command, input=commands, capture_output=True, text=True, timeout=patient(120))
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    ("topology", "pings"), [("single", 4 * 3), ("roaming", 5 * 4), ("mip4", 8 * 7), ("dual", 5 * 4)]
)
def test_mn_builds_a_network_in_which_all_reach_all(topology: str, pings: int) -> None:
    output = mn(topology, test="pingall", commands="r1 ping -c 1 mn\ncn ping -c 1 r1\n")
    assert f"Results: 0% dropped ({pings}/{pings} received)" in output
    assert output.count(" 0% packet loss") == 2


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    ("topology", "commands"),
    [
        # The mobile node of Proxy Mobile IPv6 has no address of its own.
        ("proxy", "cn ping -c 1 lma\nmag1 ping -c 1 lma\nmag2 ping -c 1 cn\n"),
        ("dmm", "cn1 ping -c 1 ha3\nha2 ping -c 1 ha\ncn3 ping -c 1 mn\n"),
    ],
)
def test_mn_builds_a_network_whose_anchors_are_reached(topology: str, commands: str) -> None:
    assert mn(topology, commands=commands).count(" 0% packet loss") == 3


@pytest.mark.usefixtures("sandbox")
def test_mn_leaves_no_bridge_and_no_interface() -> None:
    mn("roaming")
    assert os.listdir("/sys/class/net") == ["lo"]


@pytest.mark.usefixtures("sandbox")
def test_every_packet_passes_the_routers_bridge_on_both_sides() -> None:
    """Without its base flow nothing gets through r1; each packet counts as it comes and as it leaves."""
    output = mn(
        "roaming",
        commands="cn ping -c 1 mn\n"
        "r1 ovs-ofctl -O OpenFlow13 add-flow br0 priority=9,ipv6,nw_proto=17,actions=NORMAL\n"
        "cn bash -c 'for i in $(seq 10); do echo > /dev/udp/2001:db8:99::100/9; done'\n"
        "cn ping -c 1 mn\n"
        # The base flow, too, may have counted twenty.
        "r1 timeout 10 sh -c 'until ovs-ofctl -O OpenFlow13 dump-flows br0 udp6 | grep n_packets=20,; do sleep 0.1;"
        " done'\n"
        "r1 ovs-ofctl -O OpenFlow13 del-flows br0\n"
        "cn ping -c 1 -W 1 mn\n",
    )
    assert output.count(" 0% packet loss") == 2
    assert re.search(r"n_packets=20,.* priority=9,udp6 ", output)
    assert output.count(" 100% packet loss") == 1


@pytest.mark.usefixtures("sandbox")
def test_a_remote_controller_is_taken_and_the_base_flow_stays() -> None:
    """Open vSwitch flushes a bridge's flows when it gets its first controller: that must have been before."""
    output = mn(
        "single",
        *("--controller", "remote,ip=127.0.0.1,port=6653"),
        commands="r1 ovs-vsctl get-controller br0\ncn ping -c 1 mn\n",
    )
    assert "tcp:192.0.2.1:6653\n" in output, "as the router reaches what listens on this host"
    assert " 0% packet loss" in output


@pytest.mark.usefixtures("sandbox")
def test_the_delay_is_a_parameter() -> None:
    output = mn("roaming,delay=30", commands="cn ping -c 3 ha\ncn ping -c 3 r3\n")
    across, around = (float(low) for low in re.findall(r"rtt min/avg/max/mdev = ([0-9.]+)/", output))
    assert across >= 60
    assert around < across


def test_delay_line_carries_all_frames_in_order_and_whole(tmp_path: Path) -> None:
    """A burst, frames of all sizes up to the MTU: all arrive, in order, unchanged, and none comes back."""
    script = tmp_path / "exchange.py"
    script.write_text(
        "import os, socket, sys\n"
        "def open(name):\n"
        "    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)\n"
        "    s.setsockopt(263, 23, 1); s.setsockopt(socket.SOL_SOCKET, 33, 1 << 23); s.bind((name, 0x88B5))\n"
        "    s.settimeout(10); return s\n"
        "near, far = open('near'), open('far')\n"
        "head = b'\\xff' * 6 + b'\\x02' * 6 + b'\\x88\\xb5'\n"
        "frames = [head + i.to_bytes(4, 'big') + os.urandom(42 + i % 1455) for i in range(5000)]\n"
        "for frame in frames: near.send(frame)\n"
        "assert [far.recv(2000) for _ in frames] == frames\n"
        "far.send(head + bytes(46)); assert near.recv(2000) == head + bytes(46)\n"
        "near.settimeout(0.2)\n"
        "try: near.recv(2000); sys.exit('a frame came back')\n"
        "except TimeoutError: pass\n"
    )
    with Sandbox():
        for end, line in (("near", "left"), ("far", "right")):
            subprocess.run(["ip", "link", "add", end, "type", "veth", "peer", "name", line], check=True)
            for name in (end, line):
                subprocess.run(["ip", "link", "set", "dev", name, "addrgenmode", "none", "up"], check=True)
        program = CHECKOUT / "topologies/delay_line.py"
        line_process = Process(
            "delay line",
            ["/usr/bin/python3", str(program), "left", "right", "--delay", "20"],
            tmp_path / "line.log",
        )
        try:
            line_process.wait_for("event=ready", 60)
            subprocess.run(["/usr/bin/python3", script], check=True, timeout=patient(60))
        finally:
            assert line_process.stop() == 0
        assert [str(line) for line in line_process.lines] == ["event=ready"]


def test_sandbox_hides_and_leaves_nothing() -> None:
    before = (os.getcwd(), os.listdir("/sys/class/net"), sorted(os.listdir("/run")))
    namespace = os.readlink("/proc/thread-self/ns/net")
    with Sandbox():
        subprocess.run(["ip", "netns", "add", "inside"], check=True)
        subprocess.run(["ip", "link", "add", "dummy-inside", "type", "veth", "peer", "name", "other"], check=True)
        done = threading.Event()
        thread = threading.Thread(target=done.wait)  # one that is still there when the sandbox is left
        thread.start()
        assert os.readlink("/proc/thread-self/ns/net") != namespace
        assert sorted(os.listdir("/sys/class/net")) == ["dummy-inside", "lo", "other"]
    done.set()
    thread.join()
    assert os.readlink("/proc/thread-self/ns/net") == namespace
    assert (os.getcwd(), os.listdir("/sys/class/net"), sorted(os.listdir("/run"))) == before


def test_process_says_what_a_program_said_that_ended_early(tmp_path: Path) -> None:
    process = Process("teller", ["sh", "-c", "echo one; echo two >&2; exit 3"], tmp_path / "log")
    process.wait_for("two", 60)
    with pytest.raises(ProcessError, match=r"teller ended while 'three' was awaited\.\n    one\n    two"):
        process.wait_for("three", 60)
    assert process.stop() == 3
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_program_that_nobody_knows_does_not_keep_its_starter_from_ending(tmp_path: Path) -> None:
    """A signal may interrupt whoever starts a program before it is noted, and could be stopped, anywhere."""
    script = (
        "from pathlib import Path\n"
        "from topologies.processes import Process\n"
        f"print(Process('sleeper', ['sleep', '1000'], Path({str(tmp_path / 'log')!r})).pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=patient(120)
    )
    assert done.returncode == 0, done.stderr
    wait_for("the sleeper is killed", lambda: not os.path.exists(f"/proc/{int(done.stdout)}"))


def test_a_command_in_a_node_ends_with_what_interrupts_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = (
        "import os, signal\n"
        "from mininet.node import Node\n"
        "from topologies.nodes import checked\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        f"checked(Node('n1'), 'sh', '-c', f'echo $$ >{file}; kill -TERM {{os.getpid()}}; exec sleep 1000')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=patient(120)
    )
    assert "KeyboardInterrupt" in done.stderr
    wait_for("the command has ended", lambda: not os.path.exists(f"/proc/{int(file.read_text())}"))
