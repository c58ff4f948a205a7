# SPDX-License-Identifier: Apache-2.0
"""The system of docker-compose.yml, by what its user would do with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.containers.engine import Engine
from tests.support.checkout import CHECKOUT
from tests.support.signals import undisturbed
from topologies.traffic import Records, Span, lost

PROJECT = "hoaflow-test"
IMAGE = "hoaflow-test:latest"
ETCD_IMAGE = "hoaflow-test-etcd:latest"
REVISION = "0123456789abcdef"
CORRESPONDENT, HOME_ADDRESS = "2001:db8:2::2", "2001:db8:99::100"
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
WAIT_SECONDS = 60.0
RATE = 100
# Sends and records until SIGUSR2; see topologies.probe.
PROBE = (
    "echo $$ >/tmp/probe.pid; exec python3 -m topologies.probe --bind {own} --peer {peer} --rate {rate}"
    " --records /tmp/records >/tmp/ready"
)


class System:
    """The running system. All waits are bounded and raise AssertionError."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._base_image = engine.base_image()

    def compose(self, *arguments: str, **environment: str) -> str:
        """Run Compose on the project, with more `environment`."""
        settings = {
            "IMAGE": IMAGE,
            "BASE_IMAGE": self._base_image,
            **dict.fromkeys(("REST", "REST_2", "REST_3"), "127.0.0.1:0"),
            "REVISION": REVISION,
            **environment,
        }
        return self.engine.compose(settings, "--project-name", PROJECT, *arguments)

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        labels = (f"project={PROJECT}", f"service={service}")
        filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
        (identity,) = self.engine.docker("ps", "--all", "--quiet", *filters).split()
        return identity

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container."""
        (known,) = json.loads(self.engine.docker("inspect", self.container(service)))
        found: dict[str, Any] = known
        return found

    def run(self, service: str, *command: str) -> str:
        """Run a command in a container and return its output."""
        return self.engine.docker("exec", self.container(service), *command)

    def log(self, service: str) -> str:
        """Return what a container's process wrote."""
        return self.engine.logs(self.container(service))

    def kill(self, service: str) -> None:
        """End a container's process by SIGKILL, as a crash would; its restart policy brings it back."""
        before = self.inspect(service)["State"]["StartedAt"]
        os.kill(self.inspect(service)["State"]["Pid"], signal.SIGKILL)
        wait(lambda: self.inspect(service)["State"]["StartedAt"] != before, f"{service} is not started again")
        self.wait_healthy(service)

    def wait_healthy(self, service: str) -> None:
        """Wait until a container passes its health check."""
        try:
            wait(lambda: self.inspect(service)["State"]["Health"]["Status"] == "healthy", f"{service} is not healthy")
        except AssertionError as error:
            health = self.inspect(service)["State"]["Health"]
            raise AssertionError(f"{error}: {json.dumps(health)}; it logged:\n{self.log(service)}") from None

    def roam(self, link: str) -> None:
        """Move the mobile node, and return when it has registered from there."""
        before = self.registrations()
        self.run("mn", "roam", link)
        wait(lambda: self.registrations() > before, f"no registration from {link}")

    def registrations(self) -> int:
        """Return how often the mobile node has registered, or deregistered."""
        return self.log("mn").count('registered"')

    def bindings(self) -> str:
        """Return what the home agent's terminal shows."""
        show = (
            "from ha_bridge.terminal_client import TerminalClient\n"
            "print(*TerminalClient('127.0.0.1', 7777).read(), sep='\\n')"
        )
        return self.run("home-agent", "python3", "-c", show)

    def published(self, path: str, token: bool = True) -> str:
        """Return what is at the controller's published port; with or without the operator's token."""
        port = self.inspect("controller")["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"]
        headers = {"Authorization": f"Bearer {self.run('cli', 'cat', '/secrets/admin.token')}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read(), "utf-8")

    def rest(self, path: str) -> Any:
        """Return an answer of the REST API."""
        return json.loads(self.published(path))

    def masters(self) -> list[dict[str, Any]]:
        """Return the masterships of the cluster's routers."""
        found: list[dict[str, Any]] = self.rest("/v1/cluster")["routers"]
        return found

    def binding_state(self) -> tuple[str, str] | None:
        """Return state and care-of address of the mobile node's binding, as the controller has it."""
        bindings = self.rest("/v1/bindings")["bindings"]
        return (bindings[0]["state"], bindings[0]["care_of_address"]) if bindings else None

    @contextlib.contextmanager
    def traffic(self) -> Iterator[Callable[[], dict[str, tuple[int, int]]]]:
        """Constant traffic both ways; the function it gives ends it and tells how many were (lost, sent) by sender."""
        ends = {"cn": (CORRESPONDENT, HOME_ADDRESS), "mn": (HOME_ADDRESS, CORRESPONDENT)}
        running = {}
        for service, (own, peer) in ends.items():
            script = PROBE.format(own=own, peer=peer, rate=RATE)
            running[service] = self.engine.popen("exec", self.container(service), "sh", "-c", script)
        try:
            self._signal("USR1")
            wait(lambda: all(self._records(service).received for service in ends), "no traffic gets through")
            since = time.time()
            yield lambda: self._stop(since)
        finally:
            for service, process in running.items():
                with contextlib.suppress(subprocess.CalledProcessError):  # it has ended already
                    self.run(
                        service, "sh", "-c", "kill $(cat /tmp/probe.pid); rm /tmp/probe.pid /tmp/ready /tmp/records"
                    )
                process.wait(30)

    def _stop(self, since: float) -> dict[str, tuple[int, int]]:
        self._signal("USR2")  # no more is sent
        time.sleep(1.0)  # longer than any packet is under way
        records = {service: self._records(service) for service in ("cn", "mn")}
        span = Span(since, time.time())
        counts = {}
        for sender, receiver in (("cn", "mn"), ("mn", "cn")):
            sent = sum(span.start <= at < span.end for at in records[sender].sent.values())
            counts[sender] = len(lost(records[sender], records[receiver], span)), sent
        return counts

    def _signal(self, name: str) -> None:
        for service in ("cn", "mn"):
            wait(lambda: self._started(service), "the probe does not start")  # noqa: B023 - called at once
            self.run(service, "sh", "-c", f"kill -{name} $(cat /tmp/probe.pid)")

    def _started(self, service: str) -> bool:
        return bool(self.run(service, "sh", "-c", "[ ! -s /tmp/ready ] || echo yes"))

    def _records(self, service: str) -> Records:
        copy = CHECKOUT / "build" / "image" / f"{service}.records"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(self.run(service, "cat", "/tmp/records"))
        return Records.read(copy)


def wait(condition: Callable[[], object], otherwise: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until `condition` holds. Raises AssertionError with `otherwise` if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{otherwise} within {seconds} s"
        time.sleep(0.2)


def build_image(engine: Engine) -> None:
    """Build the image, which needs a way to the packages' registries."""
    proxy = CHECKOUT / "deploy" / "image" / "ca" / "host.crt"
    if HOST_CERTIFICATES.exists():
        shutil.copy(HOST_CERTIFICATES, proxy)
    try:
        print(System(engine).compose("build", "controller"))
    finally:
        proxy.unlink(missing_ok=True)


def build_etcd_image(engine: Engine) -> str:
    """Build an image with Debian's etcd, as that of its makers can't be had here; return its name."""
    with tempfile.TemporaryDirectory() as context:
        for folder, program in (("etcd", "etcd"), ("etcd-client", "etcdctl")):
            shutil.copy(CHECKOUT / "build" / folder / "usr" / "bin" / program, context)
        recipe = f"FROM {engine.base_image()}\nCOPY etcd etcdctl /usr/bin/\n"
        (Path(context) / "Dockerfile").write_text(recipe)
        engine.docker("build", "--network", "none", "--tag", ETCD_IMAGE, context)
    return ETCD_IMAGE


@contextlib.contextmanager
def running_system(engine: Engine) -> Iterator[System]:
    """Bring all of it up, and take it down again with its volumes."""
    system = System(engine)
    try:
        system.compose("up", "-d")
        yield system
    finally:
        with undisturbed():
            system.compose("down", "--volumes", "--timeout", "5")
