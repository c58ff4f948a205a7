# SPDX-License-Identifier: Apache-2.0
"""To whom the home agent reports no errors."""

import pytest

from hoaflow.home_agent.replies import Replies
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.messages import BindingErrorStatus
from hoaflow.mobility.wire import MobilityPacket


@pytest.mark.parametrize("source", ["::", "ff02::1", "ff0e::1", "fe80::1"])
def test_errors_go_to_routable_unicast_addresses_only(source: str) -> None:
    counts = MessageCounts()
    packet = MobilityPacket(source, "2001:db8:99::1", "2001:db8:99::100", None, 58, b"")
    Replies("2001:db8:99::1", counts).report_error(packet, BindingErrorStatus.UNKNOWN_BINDING)
    assert counts.dropped == {"unanswerable": 1}
