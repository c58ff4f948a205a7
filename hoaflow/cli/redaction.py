# SPDX-License-Identifier: Apache-2.0
"""Remove secrets from text: known ones, and whatever looks like one."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

HIDDEN = "(hidden)"
# The first group stays. Names of files are no secrets: tokens_file = /etc/...
_LOOKS_SECRET = (
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?i)(\bbearer )[A-Za-z0-9._~+/-]{8,}=*"),
    re.compile(r"""(?i)((?:token(?:_sha256)?|psk|secret|password)["']?\s*[=:]\s*["']?)(?!/)[^\s"',}]+"""),
    re.compile(r"""(?i)(\bkey["']?\s*[=:]\s*["']?)[0-9a-f]{16,}"""),
    re.compile(r"(://)[^/@\s]+(?=@)"),
)


class Redaction:
    """Replace `secrets`, and whatever looks like one, by `HIDDEN`."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def applied(self, text: str) -> str:
        """Return a text without secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern in _LOOKS_SECRET:
            text = pattern.sub(rf"\g<1>{HIDDEN}", text)
        return text


def secrets_in(path: Path) -> Iterator[str]:
    """Return the secrets in a file: the tokens of a tokens file in TOML, the whole content of any other.

    There are none if the file is unreadable: then no output can contain its secrets.
    """
    try:
        content = path.read_text(errors="replace")
    except OSError:
        return
    try:
        tables = tomllib.loads(content)
    except tomllib.TOMLDecodeError:
        yield content.strip()
        return
    for table in tables.values():
        if isinstance(table, dict):
            yield from (str(table[name]) for name in ("token", "token_sha256", "key") if name in table)
