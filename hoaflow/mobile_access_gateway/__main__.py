# SPDX-License-Identifier: Apache-2.0
"""Run `hoaflow-mag`, also as `python -m hoaflow.mobile_access_gateway`."""

import sys

from hoaflow import logs
from hoaflow.mobile_access_gateway.gateway import LOG, MobileAccessGateway
from hoaflow.mobile_access_gateway.settings import check, parser
from hoaflow.mobility.authentication import KeyFileError
from hoaflow.mobility.program import serve
from hoaflow.mobility.settings import SettingsError
from hoaflow.pmipv6.mobile_nodes import ProfileError


def main(argv: list[str] | None = None) -> int:
    """Run the gateway until SIGTERM or SIGINT; return 0, 1 if it cannot start, or 2 if a setting is wrong."""
    arguments = parser().parse_args(argv)
    try:
        settings = check(arguments)
    except (SettingsError, ProfileError, KeyFileError) as error:
        print(f"hoaflow-mag: {error}", file=sys.stderr)
        return 2
    logs.set_up(arguments, public=[settings.address, settings.anchor])
    insecure = "anybody can divert a home network prefix" if settings.common.keys is None else None
    return serve("hoaflow-mag", LOG, MobileAccessGateway(settings), insecure)


if __name__ == "__main__":
    sys.exit(main())
