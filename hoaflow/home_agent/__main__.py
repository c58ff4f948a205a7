# SPDX-License-Identifier: Apache-2.0
"""Run `hoaflow-ha`, also as `python -m hoaflow.home_agent`."""

import sys

from hoaflow import logs
from hoaflow.home_agent.agent import HomeAgent
from hoaflow.home_agent.journal import JournalError
from hoaflow.home_agent.pods.pod import Pod
from hoaflow.home_agent.prefix_table import PrefixTableError
from hoaflow.home_agent.settings import MIPV4, Settings, check, check_mipv4, parser
from hoaflow.mobile_ipv4.agent import HomeAgent as MobileIpv4HomeAgent
from hoaflow.mobile_ipv4.agent import Settings as MobileIpv4Settings
from hoaflow.mobility.authentication import KeyFileError
from hoaflow.mobility.program import serve
from hoaflow.mobility.settings import SettingsError

LOG = logs.Log("home-agent")


def main(argv: list[str] | None = None) -> int:
    """Run the home agent until SIGTERM or SIGINT; return 0, 1 if it cannot start, or 2 if a setting is wrong."""
    arguments = parser().parse_args(argv)
    logs.set_up(arguments, public=[arguments.home_agent, *(arguments.cache[0] if arguments.cache else ())])
    try:
        agent: HomeAgent | Pod | MobileIpv4HomeAgent
        settings: Settings | MobileIpv4Settings
        if arguments.protocol == MIPV4:
            settings = check_mipv4(arguments)
            agent = MobileIpv4HomeAgent(settings)
        else:
            settings = check(arguments)
            agent = HomeAgent(settings) if settings.shared is None else Pod(settings, settings.shared)
    except (SettingsError, KeyFileError, PrefixTableError, JournalError) as error:
        print(f"hoaflow-ha: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"hoaflow-ha: --journal: {error}", file=sys.stderr)
        return 2
    policy = settings.policy
    return serve(
        "hoaflow-ha",
        LOG,
        agent,
        "anybody can divert a home address" if policy.keys is None else None,
        home_agent=policy.home_agent,
        home_prefix=policy.home_prefix,
        home_link=settings.home_link,
        max_lifetime=policy.max_lifetime,
        mobile_nodes="any" if policy.keys is None else len(policy.keys),
    )


if __name__ == "__main__":
    sys.exit(main())
