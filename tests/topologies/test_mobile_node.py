# SPDX-License-Identifier: Apache-2.0
"""A mobile node that cannot start says why in one line."""

import subprocess
import sys

import pytest

from topologies.waiting import patient

IPV4 = ["--ipv4-home-address", "10.1.0.100/16,10.1.0.1"]


@pytest.mark.parametrize(("home", "foreign"), [("nowhere0", "lo"), ("lo", "nowhere0")])
@pytest.mark.parametrize("more", [[], IPV4], ids=["ipv6", "dual-stack"])
def test_an_interface_that_does_not_exist_is_named(home: str, foreign: str, more: list[str]) -> None:
    command = [sys.executable, "-m", "topologies.mobile_node", "--insecure", "--home-link", home, *more]
    command += ["--home-address", "2001:db8:99::100", "--home-agent", "2001:db8:99::1"]
    command += ["--foreign-link", f"{foreign}=2001:db8:2::2/64,2001:db8:2::1"]
    done = subprocess.run(["unshare", "--net", *command], capture_output=True, text=True, timeout=patient(60))
    reason = "mobile node: cannot start: [Errno 19] there is no such interface: 'nowhere0'"
    assert (done.returncode, done.stderr.splitlines()) == (1, [reason])
