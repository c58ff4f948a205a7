# SPDX-License-Identifier: Apache-2.0
"""Pack diagnostic information into one file: `hoaflow support-bundle`."""

import contextlib
import io
import os
import tarfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from hoaflow.cli import collection
from hoaflow.cli.client import Json
from hoaflow.cli.collection import File
from hoaflow.cli.errors import CliError
from hoaflow.cli.events import say
from hoaflow.cli.pseudonyms import Pseudonyms
from hoaflow.cli.redaction import Redaction, secrets_in
from hoaflow.cli.session import Session, with_session

ADDRESSES = {
    True: "Subscribers' addresses are shown.",
    False: "Addresses other than the home agents' are replaced by labels.",
}
Where = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Default: hoaflow-support-TIME.tar.gz here."),
]
ConfigFile = Annotated[Path | None, typer.Option(metavar="FILE", help="The controller's settings, to be included.")]
Logs = Annotated[list[Path] | None, typer.Option("--log", metavar="FILE", help="A log to be included; repeatable.")]
Lines = Annotated[int, typer.Option(min=1, metavar="N", help="Lines of each log, counted from its end.")]
WithAddresses = Annotated[bool, typer.Option("--with-addresses", help="Show subscribers' addresses.")]


@with_session
def support_bundle(
    at: Session,
    output: Where = None,
    config_file: ConfigFile = None,
    log: Logs = None,
    lines: Lines = 2000,
    with_addresses: WithAddresses = False,
) -> None:
    """Pack diagnostic information into one file, to look through and to send to somebody who helps.

    It has versions, the controller's state with bindings, flows and the latest events, and on a router the state of
    Open vSwitch and hoaflow-router; settings and logs only if you name them. Tokens, keys and passwords are left out.
    Addresses other than the home agents' become labels, the same label wherever an address occurs.

    \b
    Examples:
      hoaflow support-bundle
      journalctl -u ha-bridge > bridge.log; hoaflow support-bundle --log bridge.log
    """
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = output or Path(f"hoaflow-support-{now}.tar.gz")
    redaction = Redaction(_secrets(at, config_file))
    pseudonyms = None if with_addresses else _pseudonyms(at)
    names, troubles = [], []
    with _made(path) as raw, tarfile.open(fileobj=raw, mode="w:gz") as bundle:
        # One after the other: the files of a large network are large.
        for file in _files(at, config_file, log or [], lines):
            text = redaction.applied(file.text)
            _add(bundle, f"hoaflow-support-{now}/{file.name}", text if pseudonyms is None else pseudonyms.applied(text))
            names.append(file.name)
            if file.trouble is not None:
                troubles.append(redaction.applied(file.trouble))
        about = [f"hoaflow support bundle of {now}, by hoaflow {metadata.version('hoaflow')}. Secrets are left out."]
        about.append(ADDRESSES[with_addresses])
        about += ["", "Incomplete:", *troubles] if troubles else []
        text = "\n".join(about) + "\n"
        _add(bundle, f"hoaflow-support-{now}/README.txt", text if pseudonyms is None else pseudonyms.applied(text))
    for trouble in troubles:
        say(trouble)
    if at.output.as_json:
        at.output.document({"file": str(path), "files": names, "missing": troubles})
    else:
        at.output.line(f"{path} written: {len(names)} files. Look through it before you send it.")


@contextlib.contextmanager
def _made(path: Path) -> Iterator[BinaryIO]:
    """Create a file that nobody else may read, and remove it if anything fails. Raises CliError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as raw:
            yield raw
    except BaseException:
        path.unlink()
        raise


def _files(at: Session, config_file: Path | None, logs: list[Path], lines: int) -> Iterator[File]:
    yield collection.versions()
    yield from collection.controller(at.controller)
    yield from collection.router()
    if config_file is not None:
        yield collection.log(config_file, lines)._replace(name="controller.conf")
    for path in logs:
        yield collection.log(path, lines)


def _secrets(at: Session, config_file: Path | None) -> Iterator[str]:
    """Return the secrets to leave out: this command's, and those in files that the settings name."""
    for name in ("token_file", "key"):
        file = at.shared.setting(name)
        if file is not None:
            yield from secrets_in(Path(file))
    if config_file is not None and config_file.is_file():
        for line in config_file.read_text(errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name.strip() in ("tokens_file", "rest_key", "ctl_privkey", "log_key"):
                yield from secrets_in(Path(value.strip()))


def _pseudonyms(at: Session) -> Pseudonyms:
    """Return labels that distinguish home and care-of addresses, as far as the controller knows them."""
    pseudonyms = Pseudonyms()
    try:
        for agent in at.controller.everything("home_agents", "v1", "home-agents"):
            pseudonyms.keep([agent["home_agent"], *agent["home_prefixes"]])
        for page in at.controller.pages("bindings", "v1", "bindings"):
            for binding in page:
                _label(pseudonyms, binding)
    except CliError:
        pass  # reported already; then all have the same kind of label
    return pseudonyms


def _label(pseudonyms: Pseudonyms, binding: Json) -> None:
    pseudonyms.label(binding["home_address"], "home-address")
    pseudonyms.label(binding["care_of_address"], "care-of-address")


def _add(bundle: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode("utf-8", "backslashreplace")
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), int(time.time()), 0o600
    bundle.addfile(info, io.BytesIO(content))
