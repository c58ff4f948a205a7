# SPDX-License-Identifier: Apache-2.0
"""Exchange heartbeats with peers (RFC 5847)."""

import random
import time
from collections.abc import Iterable, Iterator

from hoaflow.logs import Log
from hoaflow.pmipv6.channel import Channel
from hoaflow.pmipv6.heartbeat import News, Peer
from hoaflow.pmipv6.messages import Heartbeat, timestamp_of

LOG = Log("pmipv6")

MOST_PEERS = 1000
"""Peers at which no unknown ones are added, unless one that has not answered can be forgotten for it."""


class Peers:
    """The peers of one end. The restart counter is the time of the start in seconds, which needs no file."""

    def __init__(self, channel: Channel, address: str, interval: float, known: Iterable[str]) -> None:
        """Greet the `known` peers: if they knew an earlier restart counter, they see that we have restarted."""
        self._channel, self._address, self._interval = channel, address, interval
        self._counter = int(time.time()) & 0xFFFFFFFF
        self._peers: dict[str, Peer] = {}
        for peer in known:
            self._add(peer)
            self._respond(peer, random.randrange(1 << 32), unsolicited=True)

    def meet(self, address: str) -> None:
        """Ask a peer regularly from now on.

        Without keys anybody can be one, from any number of addresses, so there are MOST_PEERS of these at most.
        """
        if address in self._peers:
            return
        if len(self._peers) >= MOST_PEERS:
            silent = next((other for other, peer in self._peers.items() if not peer.reachable), None)
            if silent is None:
                return  # its bindings end with their lifetimes, if it restarts
            del self._peers[silent]
        self._add(address)

    def seen(self, address: str) -> float:
        """Return when a peer last answered with the restart counter before its present one (monotonic seconds)."""
        return self._peers[address].seen

    def unreachable(self) -> list[str]:
        """Return the peers that do not answer."""
        return [address for address, peer in list(self._peers.items()) if peer.reachable is False]

    def take(self, heartbeat: Heartbeat) -> bool:
        """Take a heartbeat; return whether it tells that its sender has restarted."""
        if not heartbeat.response:
            self._respond(heartbeat.source, heartbeat.sequence, unsolicited=False)
            return False
        peer = self._peers.get(heartbeat.source)
        news = None if peer is None else peer.answered(heartbeat, time.monotonic())
        if news is not None:
            LOG.warning("peer", peer=heartbeat.source, state=news.name.lower())
        return news is News.RESTARTED

    def tick(self, now: float) -> None:
        """Send the requests that are due."""
        for address, peer in self._peers.items():
            sequence, news = peer.tick(now)
            if news is not None:
                LOG.warning("peer", peer=address, state=news.name.lower())
            if sequence is not None:
                stamp = timestamp_of(time.time())
                self._channel.send(Heartbeat(self._address, address, sequence, timestamp=stamp))

    def next_due(self) -> Iterator[float]:
        """Yield when requests are due."""
        return (peer.due for peer in self._peers.values())

    def _add(self, address: str) -> None:
        self._peers[address] = Peer(self._interval, time.monotonic(), random.randrange(1 << 32))

    def _respond(self, peer: str, sequence: int, unsolicited: bool) -> None:
        self._channel.send(
            Heartbeat(
                self._address,
                peer,
                sequence,
                response=True,
                unsolicited=unsolicited,
                restart_counter=self._counter,
                timestamp=timestamp_of(time.time()),
            )
        )
