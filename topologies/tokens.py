# SPDX-License-Identifier: Apache-2.0
"""Tokens for what is deployed on a testbed: the controller's file, and a file for each of those who call it."""

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

BRIDGE, OPERATOR = "bridge", "operator"


class Tokens:
    """New tokens in a directory: of the bridge, of each router's agent (by the router's name), and the operator's."""

    def __init__(
        self, directory: Path, home_agent: str, home_prefixes: Iterable[str], routers: Mapping[str, str]
    ) -> None:
        """routers: datapath ids by name."""
        self._directory = directory
        self.controllers = directory / "tokens.toml"
        prefixes = ", ".join(f'"{prefix}"' for prefix in home_prefixes)
        tables = {
            BRIDGE: f'may = "bridge"\nhome_agent = "{home_agent}"\nhome_prefixes = [{prefixes}]\n',
            OPERATOR: 'may = "admin"\n',
        } | {name: f'may = "router"\nrouter = "{dpid}"\n' for name, dpid in routers.items()}
        tokens = {name: secrets.token_hex(32) for name in tables}
        for name, token in tokens.items():
            _write(self.file(name), f"{token}\n")
        _write(self.controllers, "\n".join(f'[{name}]\ntoken = "{tokens[name]}"\n{tables[name]}' for name in tables))

    def file(self, name: str) -> Path:
        """Return the file that has somebody's token alone."""
        return self._directory / f"{name}.token"


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
