# SPDX-License-Identifier: Apache-2.0
"""Whom an anchor exchanges heartbeats with."""

import time
from typing import cast

from hoaflow.pmipv6.channel import Channel
from hoaflow.pmipv6.messages import Heartbeat, Message
from hoaflow.pmipv6.peers import MOST_PEERS, Peers
from tests.support.proxy_mobility import LMA, MAG_1


class Sent:
    """A channel that only keeps what is sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> bool:
        self.messages.append(message)
        return True

    def asked(self, peers: Peers) -> dict[str, int]:
        """Let the peers be asked that are due; return the sequence number for each."""
        self.messages.clear()
        peers.tick(time.monotonic())
        requests = [each for each in self.messages if isinstance(each, Heartbeat) and not each.response]
        return {each.destination: each.sequence for each in requests}


def stranger(number: int) -> str:
    return f"2001:db8:bad::{number:x}"


def test_strangers_take_no_more_than_a_share_of_memory() -> None:
    """Without keys, anybody may register a mobile node from any number of addresses."""
    sent = Sent()
    peers = Peers(cast(Channel, sent), LMA, 60.0, [])
    peers.meet(MAG_1)
    sequence = sent.asked(peers)[MAG_1]
    peers.take(Heartbeat(MAG_1, LMA, sequence, response=True, restart_counter=1))
    for number in range(3 * MOST_PEERS):
        peers.meet(stranger(number))
    asked = sent.asked(peers)
    assert len(asked) == MOST_PEERS - 1
    assert stranger(3 * MOST_PEERS - 1) in asked, "whoever has registered last may be a gateway"
    for gateway, sequence in asked.items():
        peers.take(Heartbeat(gateway, LMA, sequence, response=True, restart_counter=1))
    peers.meet(stranger(3 * MOST_PEERS))
    assert sent.asked(peers) == {}, "all are there"
    # The one that was met first and answers is still followed: it restarts.
    assert peers.take(Heartbeat(MAG_1, LMA, 1, response=True, unsolicited=True, restart_counter=2))


def test_all_gateways_with_a_key_are_followed() -> None:
    sent = Sent()
    known = [stranger(number) for number in range(MOST_PEERS + 10)]
    peers = Peers(cast(Channel, sent), LMA, 60.0, known)
    assert sent.asked(peers).keys() == set(known)
