# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-ha`, also `python -m home_agent`."""

from __future__ import annotations

import logging
import os
import signal
import sys

from home_agent.agent import HomeAgent
from home_agent.authentication import KeyFileError
from home_agent.journal import JournalError
from home_agent.settings import SettingsError, check, parser
from home_agent.tunnels import KERNEL_ERRORS

log = logging.getLogger("home_agent")


def main(argv: list[str] | None = None) -> int:
    """Runs the home agent until SIGTERM or SIGINT. Returns 0, or 1 when it could not start, 2 for wrong settings."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="at=%(asctime)s.%(msecs)03d level=%(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("pyroute2").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        settings = check(arguments)
        agent = HomeAgent(settings)
    except (SettingsError, KeyFileError, JournalError) as error:
        print(f"hoaflow-ha: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"hoaflow-ha: --journal: {error}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("hoaflow-ha: root is needed (routes, packet sockets, nftables)", file=sys.stderr)
        return 1
    if settings.policy.keys is None:
        log.warning("event=insecure text='Binding Updates are not authenticated: anybody can divert a home address'")
    try:
        try:
            agent.setup()
        except KERNEL_ERRORS as error:
            print(f"hoaflow-ha: cannot start: {error}", file=sys.stderr)
            return 1
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        policy = settings.policy
        log.info(
            "event=started home_agent=%s home_prefix=%s home_link=%s max_lifetime=%d mobile_nodes=%s",
            policy.home_agent,
            policy.home_prefix,
            settings.home_link,
            policy.max_lifetime,
            "any" if policy.keys is None else len(policy.keys),
        )
        agent.run()
        return 0
    finally:
        agent.close()
        log.info("event=ended")


if __name__ == "__main__":
    sys.exit(main())
