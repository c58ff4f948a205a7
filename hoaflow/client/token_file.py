# SPDX-License-Identifier: Apache-2.0
"""Read a bearer token from a file, and again when the file changes, so no restart is needed."""

import os
import re
import stat
from pathlib import Path

from hoaflow.client.errors import AccessError
from hoaflow.logs import Log

LOG = Log("northbound")

LARGEST = 4096  # bytes
# What an Authorization header can carry (RFC 6750, section 2.1).
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)


class TokenFile:
    """Hold the token of the file `path`. Raises AccessError for a file that is unusable at first.

    If the file becomes unusable later, the former token stays in use and one warning is logged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = read_token(path)
        self._read: object = self._state()

    def token(self) -> str:
        """Return the token that the file has now."""
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
        """Return a value that changes with the file, even if another takes its place; None without a file."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def read_token(path: Path) -> str:
    """Return the token in a file, never shown in errors.

    Raises AccessError, also for a file that others can read.
    """
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
