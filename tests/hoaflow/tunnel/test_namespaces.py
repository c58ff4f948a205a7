# SPDX-License-Identifier: Apache-2.0
"""Network namespaces are made also where that takes long."""

import os
import time

import pytest
from pyroute2 import netns

from hoaflow.tunnel.namespace import in_namespace
from hoaflow.tunnel.objects import NamedNamespace

BUSY = 2.5  # seconds; pyroute2's own limit is 2


def test_a_namespace_is_made_by_a_process_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*arguments: object) -> None:
        time.sleep(BUSY)
        make(*arguments)

    make = netns._create
    monkeypatch.setattr(netns, "_create", late)
    declared = NamedNamespace(f"hf-late-{os.getpid()}")
    try:
        declared.make()
        assert in_namespace(declared.name, lambda: os.listdir("/proc/thread-self/net/dev_snmp6")) == ["lo"]
    finally:
        declared.remove()
