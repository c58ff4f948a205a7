# SPDX-License-Identifier: Apache-2.0
"""Start the command line `hoaflow`."""

import io
import sys

from hoaflow.cli.app import app
from hoaflow.cli.errors import CliError, Status
from hoaflow.cli.session import drop_output


def main() -> int:
    """Run a command and return its exit status (`cli.errors.Status`)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every letter
    try:
        app(prog_name="hoaflow")
    except CliError as error:
        print(f"hoaflow: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"hoaflow: {error}", file=sys.stderr)
        drop_output()
        return Status.FAILED
    return Status.OK


if __name__ == "__main__":
    sys.exit(main())
