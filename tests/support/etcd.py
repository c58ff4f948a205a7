# SPDX-License-Identifier: Apache-2.0
"""A real etcd cluster on loopback, of the version that `scripts/setup-tests` unpacks."""

import contextlib
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import requests

from hoaflow.etcd import EtcdClient
from hoaflow.etcd.messages import key_value, put
from tests.support.checkout import CHECKOUT
from tests.support.environment import Environment
from tests.support.ovs import Ovs
from tests.support.waiting import TIMEOUT, wait_for
from topologies.waiting import patient

# Debian 12's etcd, from `scripts/setup-tests`, unless another one is to be tested.
ETCD = Path(os.environ.get("HOAFLOW_ETCD", CHECKOUT / "build/etcd/usr/bin/etcd"))
# From the first possible key to itself: all keys. In Base64.
FIRST_KEY = "AA=="
END = "end"  # a key that `history` sets, to see how far it has come
CLIENT_PORT, PEER_PORT, METRICS_PORT = 23790, 23800, 23810  # of member 0; the others follow


class Etcd(Environment):
    """An etcd cluster; its members are numbered from `first`. A context manager: leaving it ends all of them."""

    def __init__(
        self,
        directory: Path,
        members: int = 3,
        options: Sequence[str] = (),
        ovs: Ovs | None = None,
        scheme: str = "http",
        first: int = 0,
    ) -> None:
        """Describe a cluster.

        options: further ones of each member. ovs: in whose namespace it runs, None: in this one. scheme: of the client
        ports, for which `options` name the certificates if it is https. first: number of the first member, for a
        cluster beside another one.
        """
        self._directory, self._options, self._ovs, self._scheme = directory, options, ovs, scheme
        directory.mkdir(exist_ok=True)
        self.members = range(first, first + members)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def _start(self) -> None:
        for member in self.members:
            self.start(member)
        wait_for("etcd has a leader", lambda: self.leader is not None)

    @property
    def endpoints(self) -> list[str]:
        """The members' URLs."""
        return [self._endpoint(member) for member in self.members]

    def _endpoint(self, member: int) -> str:
        return f"{self._scheme}://127.0.0.1:{CLIENT_PORT + member}"

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the members that run, by name."""
        return {f"etcd{member}": process.pid for member, process in self._processes.items()}

    def start(self, member: int) -> None:
        """Start a member, with the data that it had."""
        client, peer = self._endpoint(member), f"http://127.0.0.1:{PEER_PORT + member}"
        options = {
            "name": f"etcd{member}",
            "data-dir": str(self._directory / f"etcd{member}"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": ",".join(f"etcd{each}=http://127.0.0.1:{PEER_PORT + each}" for each in self.members),
            "listen-metrics-urls": f"http://127.0.0.1:{METRICS_PORT + member}",
            "logger": "zap",
        }
        argv = [str(ETCD), *(f"--{name}={value}" for name, value in options.items()), *self._options]
        command = argv if self._ovs is None else self._ovs.command(*argv)
        with (self._directory / f"etcd{member}.log").open("ab") as log:
            self._processes[member] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, member: int, number: signal.Signals = signal.SIGKILL) -> None:
        """End a member and wait for its end."""
        process = self._processes.pop(member)
        process.send_signal(number)
        process.wait(patient(TIMEOUT))

    def pause(self, *members: int) -> None:
        """Stop members where they are: they keep their connections, and answer nothing."""
        for member in members:
            self._processes[member].send_signal(signal.SIGSTOP)

    def resume(self, *members: int) -> None:
        """Let members go on that were paused."""
        for member in members:
            self._processes[member].send_signal(signal.SIGCONT)

    @property
    def leader(self) -> int | None:
        """The member that leads, None while there is none."""
        with contextlib.nullcontext() if self._ovs is None else self._ovs.inside():
            for member in self._processes:
                with contextlib.suppress(OSError):
                    url = f"http://127.0.0.1:{METRICS_PORT + member}/metrics"
                    if b"etcd_server_is_leader 1" in urllib.request.urlopen(url, timeout=1).read():
                        return member
        return None

    def history(self) -> list[tuple[str, str]]:
        """Return all keys that were ever set, each with what it was set to, oldest first; none may be compacted."""
        with contextlib.nullcontext() if self._ovs is None else self._ovs.inside():
            with EtcdClient(self.endpoints) as client:
                client.transact([], [put(END, "")])
            everything = {"key": FIRST_KEY, "range_end": FIRST_KEY, "start_revision": "1"}
            found: list[tuple[str, str]] = []
            with requests.post(
                f"{self.endpoints[0]}/v3/watch",
                json={"create_request": everything},
                stream=True,
                timeout=patient(TIMEOUT),
            ) as answer:
                for line in answer.iter_lines():
                    for event in json.loads(line)["result"].get("events", ()):
                        if event.get("type") != "DELETE":
                            key, held = key_value(event["kv"])
                            if key == END:
                                return found
                            found.append((key, held.value))
        raise EOFError(f"the watch has ended after {len(found)} keys")

    def stop(self) -> None:
        """End all members. Idempotent."""
        for member in list(self._processes):
            self.kill(member)
