# SPDX-License-Identifier: Apache-2.0
"""Check the configuration and the connection to the controller: `hoaflow check-config`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from hoaflow.cli.errors import CliError, Status, WrongUsage
from hoaflow.cli.session import Session, with_session

OK, WRONG = "ok", "wrong"
TIMEOUT = 60.0  # seconds for the check of a file, which takes one
NOT_HERE = "; the controller is not installed here: check it on its host, or install the extra 'controller'"
ConfigFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The controller's settings; checked with the files that it names."),
]
NoConnect = Annotated[bool, typer.Option("--no-connect", help="Do not connect to the controller.")]


class Finding(NamedTuple):
    """A check, its result, and what was found or what to do."""

    what: str
    result: str
    said: str


@with_session
def check_config(at: Session, config_file: ConfigFile = None, no_connect: NoConnect = False) -> None:
    """Check a configuration before it is used, and the connection to the controller.

    The controller's own code reads the configuration file, so the findings are those of its start; nothing is started.
    Exit status 5 if something is wrong.

    \b
    Examples:
      hoaflow check-config                     can I reach the controller?
      hoaflow check-config --config-file /etc/hoaflow/controller.conf --no-connect
    """
    if no_connect and config_file is None:
        raise WrongUsage("nothing is left to check: give --config-file, or leave out --no-connect")
    found: list[Finding] = []
    for finding in _findings(at, config_file, no_connect):
        found.append(finding)
        if not at.output.as_json:
            at.output.paragraph(finding.said, indent=" " * 19, first=f"{finding.result:<6} {finding.what:<12}")
    healthy = all(finding.result == OK for finding in found)
    if at.output.as_json:
        at.output.document({"healthy": healthy, "findings": [finding._asdict() for finding in found]})
    if not healthy:
        raise typer.Exit(Status.UNHEALTHY)


def _findings(at: Session, config_file: Path | None, no_connect: bool) -> Iterator[Finding]:
    if config_file is not None:
        yield from _configuration(config_file)
    if not no_connect:
        yield from _connection(at)


def _configuration(path: Path) -> Iterator[Finding]:
    """Check a file with the controller's own code, which is not on every host."""
    # -P: otherwise Python would first look for it in the caller's directory, and run what lies there.
    command = [sys.executable, "-P", "-m", "controller.settings_check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    for line in done.stdout.splitlines():
        found = json.loads(line)
        yield Finding(found["what"], OK if found["ok"] else WRONG, found["said"])
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2]
        advice = "" if "ModuleNotFoundError" not in reason else NOT_HERE
        yield Finding("settings", WRONG, f"{path} could not be checked: {reason}{advice}")


def _connection(at: Session) -> Iterator[Finding]:
    """Check the connection, the token, the controller's readiness, and whether traffic is offloaded."""
    steps = (
        ("controller", ("healthz",), "it answers"),
        ("access", ("v1", "home-agents"), "this command may read"),
        ("ready", ("readyz",), "switches are connected, and all leases hold"),
    )
    for what, path, said in steps:
        try:
            at.controller.get(*path)
        except CliError as error:
            yield Finding(what, WRONG, str(error))
            if what == "controller":
                return
        else:
            yield Finding(what, OK, f"{at.controller.url}: {said}")
    try:
        yield _offload(at)
    except CliError:
        return  # reported already


def _offload(at: Session) -> Finding:
    """Check that some router offloads each home agent: a controller without home agents is ready, too."""
    agents = [agent["home_agent"] for agent in at.controller.everything("home_agents", "v1", "home-agents")]
    routers = at.controller.everything("routers", "v1", "routers")
    if not agents:
        return Finding("offload", WRONG, "no home agent is announced to this controller: start its ha-bridge")
    drained = sum(router["draining"] for router in routers)
    of_them = f"{drained} of {len(routers)} known routers drained; 'hoaflow routers' shows what they lack"
    served = {gate["home_agent"] for router in routers for gate in router["gates"]}
    without = [agent for agent in agents if agent not in served]
    if without:
        return Finding("offload", WRONG, f"no router takes packets off home agent {', '.join(without)}: {of_them}")
    return Finding("offload", OK, "at least one router sends the packets of each home agent direct")
