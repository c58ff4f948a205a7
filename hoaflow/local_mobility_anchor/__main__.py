# SPDX-License-Identifier: Apache-2.0
"""Run `hoaflow-lma`, also as `python -m hoaflow.local_mobility_anchor`."""

import sys

from hoaflow import logs
from hoaflow.local_mobility_anchor.anchor import LOG, LocalMobilityAnchor
from hoaflow.local_mobility_anchor.settings import check, parser
from hoaflow.mobility.authentication import KeyFileError
from hoaflow.mobility.program import serve
from hoaflow.pmipv6.mobile_nodes import ProfileError


def main(argv: list[str] | None = None) -> int:
    """Run the anchor until SIGTERM or SIGINT; return 0, 1 if it cannot start, or 2 if a setting is wrong."""
    arguments = parser().parse_args(argv)
    try:
        settings = check(arguments)
    except (ProfileError, KeyFileError) as error:
        print(f"hoaflow-lma: {error}", file=sys.stderr)
        return 2
    logs.set_up(arguments, public=[settings.policy.anchor, *(settings.common.keys or ())])
    insecure = "anybody can divert a home network prefix" if settings.common.keys is None else None
    return serve("hoaflow-lma", LOG, LocalMobilityAnchor(settings), insecure)


if __name__ == "__main__":
    sys.exit(main())
