# SPDX-License-Identifier: Apache-2.0
"""A container engine of the tests' own.

It and all that it makes are in the namespaces of scripts/isolated-python, and end with them. The host's engine is
neither used nor touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.checkout import CHECKOUT
from tests.support.signals import undisturbed

BASE_TAR = CHECKOUT / "build" / "image" / "base.tar"
BASE_IMAGE = "hoaflow-test-base:bookworm"
RELEASED_BASE = "debian:bookworm-slim"
START_SECONDS = 60.0
# Enters the network from which the package registries can be reached.
OUTSIDE = ("nsenter", "--net=/run/netns/outside")
# It needs no packet filter rules and no default bridge, and leaves the host's settings alone.
OPTIONS = ("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none")


class NoEngineError(Exception):
    """No engine can be started here; the text says why."""


class Engine:
    """A running engine: its command line, and Compose's. All calls raise subprocess.CalledProcessError."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        # Every version has this builder.
        self._environment = dict(environment) | {"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
        standalone = shutil.which("docker-compose")
        self._compose = [standalone] if standalone else ["docker", "compose"]

    def docker(self, *arguments: str, timeout: float = 120.0) -> str:
        """Run `docker` and return its output."""
        return self._run(["docker", *arguments], {}, timeout)

    def compose(self, environment: Mapping[str, str], *arguments: str, timeout: float = 300.0) -> str:
        """Run Compose in the checkout, with more `environment`, and return its output."""
        return self._run([*self._compose, *arguments], environment, timeout)

    def popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `docker` without waiting for it."""
        return subprocess.Popen(["docker", *arguments], env=self._environment, stdout=subprocess.DEVNULL)

    def logs(self, container: str) -> str:
        """Return what a container's process wrote, on either stream."""
        result = subprocess.run(
            ["docker", "logs", container],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=True,
        )
        return result.stdout

    def _run(self, command: list[str], environment: Mapping[str, str], timeout: float) -> str:
        result = subprocess.run(
            command,
            cwd=CHECKOUT,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if result.returncode:
            print(f"{' '.join(command)}: {result.stdout}{result.stderr}")
        result.check_returncode()
        return result.stdout

    def base_image(self) -> str:
        """Return the image to build upon: Debian's own if it is here, else one made of Debian's packages."""
        for image in (RELEASED_BASE, BASE_IMAGE):
            if self.docker("image", "ls", "--quiet", image):
                return image
        if not BASE_TAR.exists():
            BASE_TAR.parent.mkdir(parents=True, exist_ok=True)
            scratch = BASE_TAR.with_suffix(".new.tar")
            # As Debian's own slim image is: without documentation, and with one /usr from the beginning.
            options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
            options.append("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr")
            subprocess.run(
                [*OUTSIDE, "mmdebstrap", "--quiet", "--variant=minbase", *options, "bookworm", str(scratch)],
                check=True,
                timeout=600,
            )
            scratch.replace(BASE_TAR)
        self.docker("import", str(BASE_TAR), BASE_IMAGE)
        return BASE_IMAGE


@contextlib.contextmanager
def running_engine(prepare: Callable[[Engine], None]) -> Iterator[Engine]:
    """Provide an engine that cannot reach the internet.

    prepare: called before, with an engine that can, and that keeps its images in the same place.
    Raises NoEngineError.
    """
    # Outside of build/, whose owner may change; not in a memory file system, as images are large.
    home = Path(tempfile.mkdtemp(prefix="hoaflow-test-engine-", dir="/var/tmp"))
    try:
        with _engine_in(home, OUTSIDE) as builder:
            prepare(builder)
        with _engine_in(home) as engine:
            yield engine
    finally:
        with undisturbed():
            for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
                if (mounted := line.split()[1]).startswith(f"{home}/"):  # namespaces that it leaves behind
                    # Lazily: containerd, which ends after dockerd, may still be there for a moment.
                    subprocess.run(["umount", "--lazy", mounted], check=True, timeout=30)
            shutil.rmtree(home)


@contextlib.contextmanager
def _engine_in(home: Path, enter: Sequence[str] = ()) -> Iterator[Engine]:
    program = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        raise NoEngineError("there is no dockerd: scripts/setup-containers installs one")
    socket, log = f"unix://{home}/socket", home / "log"
    engine = Engine(os.environ | {"DOCKER_HOST": socket})
    places = ("--data-root", f"{home}/data", "--exec-root", f"{home}/run", "--pidfile", f"{home}/pid")
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [*enter, program, "--host", socket, *places, *OPTIONS], stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "API listen on" not in (said := log.read_text(errors="replace")):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise NoEngineError(f"dockerd does not start here: {said[-2000:]}")
            time.sleep(0.1)
        yield engine
    finally:
        with undisturbed():
            daemon.terminate()
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
