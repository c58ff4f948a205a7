# SPDX-License-Identifier: Apache-2.0
"""A bearer token in a file, read again when the file has changed: tokens are replaced without a restart."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from logs import Log
from northbound.errors import AccessError

LOG = Log("northbound")

LARGEST = 4096  # bytes
# What an Authorization header can carry (RFC 6750, section 2.1).
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)


class TokenFile:
    """The token in ``path``, alone on its line. Raises AccessError when made, for a file that can't be used.

    A file that becomes unusable later leaves the former token in use, with one warning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = read_token(path)
        self._read: object = self._state()

    def token(self) -> str:
        """Return the token as the file has it now."""
        state = self._state()
        if state != self._read:
            self._read = state
            try:
                self._token = read_token(self.path)
                LOG.info("token-read", file=self.path)
            except AccessError as error:
                LOG.warning("token-kept", reason=error)
        return self._token

    def _state(self) -> object:
        """What changes when the file does, also when another one takes its place; None without one."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def read_token(path: Path) -> str:
    """Return the token in a file. Raises AccessError, also for a file that others may read; never shows the token."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise AccessError(f"token file {path}: {error.strerror}") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise AccessError(
            f"token file {path}: others can read or write it (mode {stat.S_IMODE(mode):o}): chmod 600 {path}"
        )
    token = content.decode("ascii", "replace").strip()
    if len(content) > LARGEST or not TOKEN.fullmatch(token):
        raise AccessError(
            f"token file {path}: expected a token alone on one line, made of letters, digits and -._~+/ (RFC 6750)"
        )
    return token
