# SPDX-License-Identifier: Apache-2.0
"""Ryu 4.34 on a current eventlet and on peers that may send anything. The console script `ryu-manager`.

Importing it makes `ryu.app.wsgi` importable and has no other effect. hoaflow's console script has the name of Ryu's
and takes its place, as that one cannot start; `hoaflow-controller` is the same.
"""

import sys
import warnings

from oslo_config import cfg

with warnings.catch_warnings():
    # That eventlet is in maintenance mode concerns those who choose a framework. Ryu has chosen.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import eventlet.wsgi

# Gone from eventlet, imported by `ryu.app.wsgi`: what a response answers that follows a WebSocket. Eventlet itself is
# now told by its WebSocket class.
eventlet.wsgi.ALREADY_HANDLED = []


def main(argv: list[str] | None = None) -> int:
    """`ryu-manager`: Ryu's own, with the parsers guarded and the log in hoaflow's form. A wrong setting is told
    in one line, with exit status 2."""
    eventlet.monkey_patch()  # before Ryu is imported and makes locks, which could not be made green any more

    from ryu.cmd import manager

    from controller import log_setup, openflow_guard

    openflow_guard.install()
    log_setup.install()
    try:
        manager.main(args=argv)
    except cfg.Error as error:
        print(f"ryu-manager: {error}", file=sys.stderr)
        return 2
    return 0
