# SPDX-License-Identifier: Apache-2.0
"""Start Ryu 4.34 on a current eventlet, made safe against peers that send anything: the script `ryu-manager`.

It takes the place of Ryu's own script, which cannot start; `hoaflow-controller` is the same with hoaflow's application
named. Importing this module changes nothing. `repair` must be called before Ryu is imported.
"""

import os
import signal
import sys
import warnings
from types import FrameType
from typing import NoReturn

from oslo_config import cfg

from hoaflow.logs import Log

with warnings.catch_warnings():
    # The warning is for those who choose a framework; Ryu has chosen.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import eventlet.wsgi

LOG = Log()

ABOUT = """\
hoaflow's controller, a Ryu application: takes the data traffic of Mobile IPv6 off
the home agents. Bridges and tunnel agents reach it by REST, switches by
OpenFlow 1.3. It writes nothing to disk and stays in the foreground.

examples:
  hoaflow-controller
  hoaflow-controller --config-file /etc/hoaflow/controller.conf
  hoaflow-controller --config-file controller.conf --wsapi-host 192.0.2.1
      (other hosts get in with a token only: tokens_file, docs/security.md)

`ryu-manager controller.app` is the same. Its own settings are in section [hoaflow] of the file
given by --config-file (docs/settings.md explains each); Ryu's options, below, may
stand in section [DEFAULT] there. `hoaflow check-config` checks such a file.

signals:     SIGHUP reads tokens and certificates anew, SIGTERM ends it
exit status: 0 after SIGTERM or SIGINT, 1 if it can't start or go on, 2 for wrong
             options and settings

"""


def repair() -> None:
    """Give eventlet back the name that `ryu.app.wsgi` imports from it. Idempotent.

    ALREADY_HANDLED was the answer of a call that became a WebSocket; today eventlet's WebSocket class does without.
    """
    eventlet.wsgi.ALREADY_HANDLED = []


def main(argv: list[str] | None = None) -> int:
    """Run Ryu's own `ryu-manager` with guarded parsers and hoaflow's form of log; return the exit status.

    A wrong setting is reported in one line, with exit status 2.
    """
    repair()
    eventlet.monkey_patch()  # before Ryu is imported: locks that it makes cannot be made green afterwards

    # Python's warnings about Ryu's source, where that is compiled for the first time, would break the log's form.
    warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*/ryu/")
    from ryu.cmd import manager

    from controller.settings import WrongSettings
    from controller.southbound import guard, log_setup

    if {"-h", "--help"} & set(sys.argv[1:] if argv is None else argv):
        print(ABOUT)
    guard.install()
    log_setup.install()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        manager.main(args=argv)
    except cfg.Error as error:
        print(f"ryu-manager: {error}", file=sys.stderr)
        return 2
    except UnicodeDecodeError as error:  # what oslo.config raises for such a file
        print(f"ryu-manager: expected a configuration file in UTF-8: {error}", file=sys.stderr)
        return 2
    except WrongSettings as error:
        print(f"hoaflow: {error}", file=sys.stderr)
        return 2
    return 0


def options() -> cfg.ConfigOpts:
    """Return Ryu's options, all of them declared, to check settings without starting anything."""
    repair()
    # Importing them declares the options; with Ryu's command come those of logging.
    from ryu import cfg as ryu_options
    from ryu.app import wsgi  # noqa: F401
    from ryu.cmd import manager  # noqa: F401

    return ryu_options.CONF


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End the process at once: Ryu would wait for every greenlet, and nothing could be left half written."""
    try:
        LOG.info("ended", signal=signal.Signals(number).name)
    finally:
        os._exit(0)


def controller(argv: list[str] | None = None) -> int:
    """Run `hoaflow-controller`: as `main`, with hoaflow as Ryu's application, wherever it is installed."""
    return main([*(sys.argv[1:] if argv is None else argv), "controller.app"])
