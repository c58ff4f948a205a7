# SPDX-License-Identifier: Apache-2.0
"""Run `hoaflow-fa`, also as `python -m hoaflow.foreign_agent`."""

import sys

from hoaflow import logs
from hoaflow.foreign_agent.agent import LOG, ForeignAgent
from hoaflow.foreign_agent.settings import check, parser
from hoaflow.mobility.program import serve
from hoaflow.mobility.settings import SettingsError


def main(argv: list[str] | None = None) -> int:
    """Run the foreign agent until SIGTERM or SIGINT; return 0, 1 if it cannot start, or 2 if a setting is wrong."""
    arguments = parser().parse_args(argv)
    try:
        settings = check(arguments)
    except SettingsError as error:
        print(f"hoaflow-fa: {error}", file=sys.stderr)
        return 2
    policy = settings.policy
    logs.set_up(arguments, public=[policy.care_of_address])
    return serve(
        "hoaflow-fa",
        LOG,
        ForeignAgent(settings),
        None,  # home agents authenticate what it relays
        care_of_address=policy.care_of_address,
        max_lifetime=policy.max_lifetime,
        reverse_tunnels=str(policy.reverse_tunnels),
    )


if __name__ == "__main__":
    sys.exit(main())
