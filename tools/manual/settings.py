# SPDX-License-Identifier: Apache-2.0
"""Generate docs/settings.md from the controller's settings and the other programs' options."""

import argparse
from collections.abc import Iterator

from oslo_config import cfg

import ha_bridge.__main__
import hoaflow.foreign_agent.settings
import hoaflow.home_agent.settings
import hoaflow.local_mobility_anchor.settings
import hoaflow.mobile_access_gateway.settings
import hoaflow.router.cli
from controller.settings import GROUP, OPTIONS
from tools.manual.commands import plain_environment, subcommands

HEAD = f"""\
<!-- Made by `make pages` from the declarations in the code. -->
# Settings

## The controller

These settings are in section `[{GROUP}]` of the file that `hoaflow-controller --config-file FILE` reads. The controller
refuses to start with an unknown or wrong setting; `hoaflow check-config --config-file FILE` checks the file beforehand.
`deploy/etc/controller.conf` is an example.

| setting | type | default | meaning |
| --- | --- | --- | --- |
"""
RYU = """
Ryu's own settings are in section `[DEFAULT]` of the same file, or options of the command (`--wsapi-host` and so on):

| setting | default | meaning |
| --- | --- | --- |
| `wsapi_host`, `wsapi_port` | all addresses (without tokens: loopback), 8080 | address and port of the REST API |
| `ofp_listen_host`, `ofp_tcp_listen_port` | 0.0.0.0, 6653 and 6633 | for switches; a port that is set replaces both |
| `ofp_ssl_listen_port` | 6653 | port for switches over TLS, if the next three are set |
| `ctl_cert`, `ctl_privkey` | | OpenFlow over TLS: the controller's certificate and key, in PEM |
| `ca_certs` | | OpenFlow over TLS: certificates of those who sign the switches', in PEM |
"""
OTHERS = """
## {name}

| option | default | meaning |
| --- | --- | --- |
"""


def page() -> str:
    """Return the page, with a table for the controller and one for each command that has options."""
    parts = [HEAD, *map(_setting, sorted(OPTIONS, key=lambda option: option.dest)), RYU]
    with plain_environment():
        parsers = (
            ha_bridge.__main__.build_parser(),
            hoaflow.router.cli.build_parser(),
            hoaflow.home_agent.settings.parser(),
            hoaflow.foreign_agent.settings.parser(),
            hoaflow.local_mobility_anchor.settings.parser(),
            hoaflow.mobile_access_gateway.settings.parser(),
        )
    for parser in parsers:
        for each in [parser, *subcommands(parser).values()]:
            rows = list(_options(each))
            if rows:
                parts += [OTHERS.format(name=each.prog), *rows]
    return "".join(parts)


def _setting(option: cfg.Opt) -> str:
    default = "" if option.default in (None, []) else f"`{_number(option.default)}`"
    return f"| `{option.dest}` | {_type(option)} | {default} | {_cell(option.help)} |\n"


def _type(option: cfg.Opt) -> str:
    kind, least, most = option.type, getattr(option.type, "min", None), getattr(option.type, "max", None)
    name = {
        "IntOpt": "whole number",
        "FloatOpt": "number",
        "BoolOpt": "true or false",
        "StrOpt": "text",
        "ListOpt": "list",
    }[type(option).__name__]
    choices = getattr(kind, "choices", None)
    if choices:
        return " or ".join(f"`{choice}`" for choice in choices)
    bounds = [f"from {_number(least)}"] * (least is not None) + [f"to {_number(most)}"] * (most is not None)
    return " ".join([name, *bounds])


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if not action.option_strings or isinstance(action, argparse._HelpAction):
            continue
        value = "" if action.nargs == 0 else f" {action.metavar or '|'.join(action.choices or [action.dest.upper()])}"
        name = _cell(f"`{action.option_strings[-1]}{value}`{' (needed)' if action.required else ''}")
        yield f"| {name} | {_default(action)} | {_cell(_help(action))} |\n"


def _default(action: argparse.Action) -> str:
    if action.nargs == 0 or action.default in (None, []):
        return ""
    default = action.default
    shown = ":".join(map(str, default)) if isinstance(default, tuple) else _number(default)
    return f"`{shown}`"


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % vars(action)
    return text.replace(f" (default: {action.default})", "").replace(" (default: 127.0.0.1:7777)", "")


def _number(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
