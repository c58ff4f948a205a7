# SPDX-License-Identifier: Apache-2.0
"""Two pods of one home agent address as Kubernetes runs them, by the image's scripts, in the network of `PodLab`."""

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.etcd import CLIENT_PORT
from tests.support.kubernetes import KUBERNETES, PATH
from tests.support.mobility import Node
from tests.support.pods import LEASE, PODS, SIDES, PodLab
from tests.support.roaming import key_file
from topologies.waiting import patient

# A pod's files and name before its container runs. $1: its name; $2: what is in /etc; $3: keys; $4: etcd's authority.
POD = r"""
hostname "$1"
mount -t overlay overlay -o "lowerdir=$2:/etc" /etc
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/hoaflow
install -m 400 "$3" /run/secrets/hoaflow/keys.toml
install -m 400 "$4" /run/secrets/hoaflow/ca.crt
exec kubernetes-home-agent
"""


class PairLab(PodLab):
    """The network, with the home link as each pod's interface `home` and no address of a pod's own on it."""

    def __init__(self, directory: Path) -> None:
        """Take the settings of the overlay `production`, and a lease that suits this machine."""
        super().__init__(directory / "etcd")
        self._etc, self._keys = directory / "etc", key_file(directory)
        (settings := self._etc / "hoaflow").mkdir(parents=True)
        shutil.copy(KUBERNETES / "overlays" / "production" / "home-agent-0", settings)
        options = f"--cache-lease {LEASE} --etcd-certificate {self.access.certificate} --etcd-key {self.access.key}"
        with (settings / "home-agent-0").open("a") as entry:
            entry.write(f"HOME_AGENT_OPTIONS='{options}'\n")

    def start(self, name: str) -> Node:
        """Start a pod, and wait until it has read the cache."""
        side = SIDES[name]
        environment = [f"PATH={PATH}", "INDEX=0", f"POD_IP={_address(name)}"]
        environment += [f"CACHE=etcds://10.99.{side}.1:{CLIENT_PORT}/kubernetes"]
        command = ["unshare", "--mount", "--uts", "bash", "-ec", POD, "pod"]
        command += [name, str(self._etc), self._keys, str(self.access.ca)]
        node = self._started(Node(self.namespace(name), ["env", *environment, *command]))
        node.logged("event=standing-by")
        return node

    def ready(self, name: str) -> tuple[int, str]:
        """Return status and words of the answer to the overlay's readiness probe."""
        url = f"http://{_address(name)}:9103/readyz?standby=ok"
        try:
            with urllib.request.urlopen(url, timeout=patient(10)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
        except urllib.error.URLError as error:
            return 0, str(error)  # between standing by and serving nobody listens

    def _start(self) -> None:
        super()._start()
        self.run("rt", "ip address add fe80::1/64 dev br0 nodad")
        for name in PODS:
            self.run(name, "ip link set hl down")
            self.run(name, "ip link set hl name home")
            self.run(name, "ip link set home up")


def _address(name: str) -> str:
    return f"10.99.{SIDES[name]}.2"
