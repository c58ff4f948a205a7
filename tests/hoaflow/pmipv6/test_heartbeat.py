# SPDX-License-Identifier: Apache-2.0
"""Whether a peer is alive, and whether it has restarted (RFC 5847)."""

from hoaflow.pmipv6.heartbeat import MISSING_ALLOWED, News, Peer
from hoaflow.pmipv6.messages import Heartbeat

INTERVAL = 60.0


def response(sequence: int, counter: int, unsolicited: bool = False) -> Heartbeat:
    return Heartbeat("a", "b", sequence, response=True, unsolicited=unsolicited, restart_counter=counter)


def asked(peer: Peer, now: float) -> int:
    sequence, _ = peer.tick(now)
    assert sequence is not None
    return sequence


def test_a_peer_that_answers_is_asked_once_an_interval() -> None:
    peer = Peer(INTERVAL, 0.0, 7)
    assert peer.answered(response(asked(peer, 0.0), 1), 0.5) is None
    assert (peer.tick(1.0), peer.due, peer.reachable) == ((None, None), 60.5, True)


def test_a_silent_peer_is_unreachable_once_and_then_reachable_again() -> None:
    peer = Peer(INTERVAL, 0.0, 7)
    news = [peer.tick(peer.due)[1] for _ in range(MISSING_ALLOWED + 5)]
    assert [each for each in news if each] == [News.UNREACHABLE]
    assert news.index(News.UNREACHABLE) == MISSING_ALLOWED
    assert peer.answered(response(peer.sequence, 1), peer.due) is News.REACHABLE


def test_another_restart_counter_tells_of_a_restart() -> None:
    peer = Peer(INTERVAL, 0.0, 7)
    peer.answered(response(asked(peer, 0.0), 1), 0.5)
    assert peer.answered(response(asked(peer, 61.0), 2), 61.5) is News.RESTARTED
    assert peer.seen == 0.5  # with the counter before


def test_a_restarted_peer_tells_so_unasked() -> None:
    peer = Peer(INTERVAL, 0.0, 7)
    assert peer.answered(response(99, 1, unsolicited=True), 0.1) is None
    assert peer.answered(response(99, 2, unsolicited=True), 0.2) is News.RESTARTED


def test_an_answer_to_no_request_is_ignored() -> None:
    peer = Peer(INTERVAL, 0.0, 7)
    sequence = asked(peer, 0.0)
    assert peer.answered(response(sequence - 1, 5), 0.5) is None
    peer.answered(response(sequence, 1), 0.5)
    assert peer.answered(response(sequence, 2), 0.6) is None  # a second time
    assert peer.counter == 1
