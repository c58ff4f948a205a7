# SPDX-License-Identifier: Apache-2.0
"""Create the REST tokens of a testbed: the controller's file, and one file for each of its clients."""

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

BRIDGE, OPERATOR = "bridge", "operator"


class Tokens:
    """Create tokens for the bridge, the operator and, by router name, each tunnel agent."""

    def __init__(
        self,
        directory: Path,
        home_agent: str,
        home_prefixes: Iterable[str],
        routers: Mapping[str, str],
        others: Mapping[str, str] | None = None,
    ) -> None:
        """Write all token files (mode 600) into `directory`.

        routers: datapath ids by name. others: further clients' rights by name, as TOML.
        """
        self._directory = directory
        self.controllers = directory / "tokens.toml"
        prefixes = ", ".join(f'"{prefix}"' for prefix in home_prefixes)
        tables = {
            BRIDGE: f'may = "bridge"\nhome_agent = "{home_agent}"\nhome_prefixes = [{prefixes}]\n',
            OPERATOR: 'may = "admin"\n',
        } | {name: f'may = "router"\nrouter = "{dpid}"\n' for name, dpid in routers.items()}
        tables |= others or {}
        tokens = {name: secrets.token_hex(32) for name in tables}
        for name, token in tokens.items():
            _write(self.file(name), f"{token}\n")
        _write(self.controllers, "\n".join(f'[{name}]\ntoken = "{tokens[name]}"\n{tables[name]}' for name in tables))

    def file(self, name: str) -> Path:
        """Return the path of the file that holds only the token of `name`, as `--token-file` takes it."""
        return self._directory / f"{name}.token"


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
