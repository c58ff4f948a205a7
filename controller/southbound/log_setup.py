# SPDX-License-Identifier: Apache-2.0
"""Give the controller's log the form that all parts have. Its destination and libraries' levels are Ryu's options."""

import logging

from ryu import cfg, log

from controller.settings import WrongSettings, load
from hoaflow.logs import LogSettings
from hoaflow.logs.events import ROOT
from hoaflow.logs.privacy import KeyUnreadable


def install() -> None:
    """Have Ryu write hoaflow's form of lines, from the first one on."""
    ryus = log.init_log

    def init_log() -> None:
        ryus()
        settings = load(cfg.CONF).log
        try:
            formatter = settings.formatter()
        except KeyUnreadable as error:
            raise WrongSettings(str(error)) from None
        _set_up(settings, formatter)

    log.init_log = init_log


def _set_up(settings: LogSettings, formatter: logging.Formatter) -> None:
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
    logging.getLogger(ROOT).setLevel(settings.level.upper())
