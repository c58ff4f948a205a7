# SPDX-License-Identifier: Apache-2.0
"""Check a configuration file as the controller does at its start, without starting.

`hoaflow check-config` runs it as a process of its own, `python -m controller.settings_check FILE`, as importing Ryu
changes the input and output of the whole process. It prints its findings, one JSON object per line.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from oslo_config import cfg

from controller.access.exposure import exposure
from controller.cluster.joining import etcd_access, member_of
from controller.cluster.peers import member_access
from controller.settings import GROUP, OPTIONS, Settings, WrongSettings, load
from controller.southbound.manager import options
from controller.southbound.tls import openflow_tls


class Finding(NamedTuple):
    """The result of one check: its subject, whether it passed, and what was found."""

    what: str
    ok: bool
    said: str


def check(path: Path) -> Iterator[Finding]:
    """Check a file for `--config-file`, and the files that it names."""
    conf = options()
    try:
        conf(args=["--config-file", str(path)], project="ryu")
        settings = load(conf)
    except (WrongSettings, cfg.Error) as error:
        yield Finding("settings", False, str(error))
        return
    except UnicodeDecodeError as error:
        yield Finding("settings", False, f"{path}: expected a configuration file in UTF-8: {error}")
        return
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(str(path), sections).parse()
    for section, names in sections.items():
        unknown = section not in ("DEFAULT", GROUP)
        for name in names:
            if unknown or (section == "DEFAULT" and name not in conf):
                expected = f"expected the controller's settings in [{GROUP}] and Ryu's in [DEFAULT]"
                yield Finding("settings", False, f"{path}: [{section}] {name} has no effect: {expected}")
    given = len(sections.get(GROUP, {}))
    yield Finding("settings", True, f"{path}: {given} of {len(OPTIONS)} settings given, the others have their defaults")
    yield _checked("REST", lambda: _rest(conf, settings))
    yield _checked("OpenFlow", lambda: _openflow(conf))
    if settings.etcd:
        yield _checked("cluster", lambda: _cluster(settings))


def _rest(conf: cfg.ConfigOpts, settings: Settings) -> str:
    found = exposure(conf, settings)
    if found.tokens is None:
        return f"for this host alone, at {found.url}: no tokens_file is set"
    warning = "; without rest_certificate others can read the tokens" if found.in_clear else ""
    return f"for {found.tokens.count} tokens, at {found.url}{warning}"


def _cluster(settings: Settings) -> str:
    member_access(settings)
    etcd_access(settings)
    named = f"member {member_of(settings).name} of {settings.cluster}, by {', '.join(settings.etcd)}"
    if settings.member_url is None:
        return f"{named}; without member_url no other member can pass a call on to it"
    return f"{named}; others reach it at {settings.member_url}"


def _openflow(conf: cfg.ConfigOpts) -> str:
    where = conf.ofp_listen_host
    if openflow_tls(conf) is None:
        return f"in clear, from whoever reaches {where} port {conf.ofp_tcp_listen_port or 6653}"
    return f"over TLS, certificates and key are readable and fit, at {where} port {conf.ofp_ssl_listen_port or 6653}"


def _checked(what: str, describe: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, describe())
    except WrongSettings as error:
        return Finding(what, False, str(error))


if __name__ == "__main__":
    for finding in check(Path(sys.argv[1])):
        print(msgspec.json.encode(finding._asdict()).decode(), flush=True)
