# SPDX-License-Identifier: Apache-2.0
"""The controller's settings for tests that go without a configuration file."""

from oslo_config import cfg

from controller.settings import Settings, load


def defaults() -> Settings:
    """Return what each setting is when nobody sets it."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    return load(conf)
