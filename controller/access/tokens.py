# SPDX-License-Identifier: Apache-2.0
"""Read the tokens file: TOML, with one table for each token, named after its holder.

Only the SHA-256 of a token is kept, and no token appears in a message.
"""

import hashlib
import hmac
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.access.roles import ANONYMOUS, LOCAL, Caller, Role
from controller.settings import WrongSettings
from hoaflow.addresses import Prefix, parse_address, parse_prefix

SHORTEST_TOKEN = 20  # characters; `openssl rand -hex 32` makes 64
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750, section 2.1
SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
DATAPATH_ID = re.compile(r"[0-9a-fA-F]{1,16}", re.ASCII)
NOT_TOKENS = {LOCAL.name, ANONYMOUS.name}
# Members of a table besides its token, by role.
MEMBERS = {
    Role.READ: frozenset[str](),
    Role.BRIDGE: frozenset({"home_agent", "home_prefixes"}),
    Role.ROUTER: frozenset({"router"}),
    Role.MEMBER: frozenset[str](),
    Role.ADMIN: frozenset[str](),
}


class WrongTokens(WrongSettings):
    """The tokens file can't be used; the message names the table and what was expected, but no token."""


class Tokens:
    """Hold the tokens of a file."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises WrongTokens."""
        self._path = path
        self._callers = read_tokens(path)

    def reload(self) -> None:
        """Read the file again. Raises WrongTokens, having kept the former tokens."""
        former = self._callers
        # A caller stays the same object while its table is unchanged: `holds` compares objects.
        self._callers = {
            digest: former[digest] if former.get(digest) == caller else caller
            for digest, caller in read_tokens(self._path).items()
        }

    @property
    def count(self) -> int:
        """Return the number of tokens."""
        return len(self._callers)

    def find(self, token: str) -> Caller | None:
        """Return the caller with this token; None if it is unknown.

        Takes the same time for any token, known or not: about 0.05 microseconds for each token in the file.
        """
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for known, caller in self._callers.items():
            if hmac.compare_digest(digest, known):
                found = caller
        return found

    def holds(self, caller: Caller) -> bool:
        """Tell whether a caller's token is still valid, with the same rights."""
        return any(known is caller for known in self._callers.values())


def read_tokens(path: Path) -> Mapping[bytes, Caller]:
    """Return callers by SHA-256 of their tokens. Raises WrongTokens, also for a file that others may read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IROTH | stat.S_IWOTH):
                raise WrongTokens(
                    f"{path}: others can read or write it (mode {stat.S_IMODE(mode):o}): chmod 600 {path}"
                )
            tables = tomllib.load(file)
    except OSError as error:
        raise WrongTokens(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # tomllib's own, bad UTF-8, integers too long, nesting too deep
        raise WrongTokens(f"{path}: not TOML: {error}") from None
    callers: dict[bytes, Caller] = {}
    for name, table in tables.items():
        digest, caller = _entry(f"{path}: [{name[:80]}]", name, table)
        if digest in callers:
            raise WrongTokens(f"{path}: [{name}] and [{callers[digest].name}] have the same token")
        callers[digest] = caller
    if not callers:
        raise WrongTokens(f"{path}: expected a token, found none; to admit this host only, set no tokens_file")
    return callers


def _entry(where: str, name: str, table: object) -> tuple[bytes, Caller]:
    if not NAME.fullmatch(name) or name in NOT_TOKENS:
        raise WrongTokens(f"{where}: expected a name of up to 64 letters, digits, . _ -, other than local or anonymous")
    if not isinstance(table, dict):
        raise WrongTokens(f"{where}: expected a table, such as [{name}]")
    role = next((role for role in MEMBERS if role.value == table.get("may")), None)
    if role is None:
        raise WrongTokens(f"{where} may: expected one of {', '.join(role.value for role in MEMBERS)}")
    secrets = table.keys() & {"token", "token_sha256"}
    expected = {"may"} | MEMBERS[role]
    if len(secrets) != 1 or table.keys() - secrets != expected:
        members = ", ".join(sorted(expected))
        raise WrongTokens(f"{where}: expected token or token_sha256, and {members}; got {', '.join(sorted(table))}")
    return _digest(where, table), _caller(where, name, role, table)


def _digest(where: str, table: Mapping[str, Any]) -> bytes:
    if "token_sha256" in table:
        text = table["token_sha256"]
        if not isinstance(text, str) or not SHA256.fullmatch(text):
            raise WrongTokens(f"{where} token_sha256: expected 64 hexadecimal digits")
        return bytes.fromhex(text)
    token = table["token"]
    if not isinstance(token, str) or len(token) < SHORTEST_TOKEN or not TOKEN.fullmatch(token):
        raise WrongTokens(
            f"{where} token: expected {SHORTEST_TOKEN} or more letters, digits and -._~+/ (RFC 6750), such as from"
            " `openssl rand -hex 32`"
        )
    return hashlib.sha256(token.encode()).digest()


def _caller(where: str, name: str, role: Role, table: Mapping[str, Any]) -> Caller:
    if role is Role.ROUTER:
        dpid = table["router"]
        if not isinstance(dpid, str) or not DATAPATH_ID.fullmatch(dpid):
            raise WrongTokens(f"{where} router: expected a datapath id of up to 16 hexadecimal digits, in quotes")
        return Caller(name, role, router=int(dpid, 16))
    if role is not Role.BRIDGE:
        return Caller(name, role)
    prefixes = table["home_prefixes"]
    if not isinstance(prefixes, list) or not prefixes:
        raise WrongTokens(f'{where} home_prefixes: expected a list of prefixes, such as ["2001:db8:99::/64"]')
    home_prefixes = tuple(_prefix(f"{where} home_prefixes[{index}]", text) for index, text in enumerate(prefixes))
    return Caller(name, role, _address(f"{where} home_agent", table["home_agent"]), home_prefixes)


def _address(where: str, text: object) -> bytes:
    try:
        return parse_address(str(text))
    except ValueError as error:
        raise WrongTokens(f"{where}: {error}") from None


def _prefix(where: str, text: object) -> Prefix:
    try:
        if not isinstance(text, str) or "/" not in text:
            raise ValueError(f"expected a prefix, such as 2001:db8:99::/64, got {text!r}")
        return parse_prefix(text)
    except ValueError as error:
        raise WrongTokens(f"{where}: {error}") from None
