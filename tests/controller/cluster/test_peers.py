# SPDX-License-Identifier: Apache-2.0
"""Calls from member to member, whose URLs whoever may write to etcd decides."""

from dataclasses import replace

import pytest

from controller.cluster.peers import PeerCall, PeerFailed, peers_of
from controller.cluster.view import Member
from tests.support.rest_api import SETTINGS

CALL = PeerCall("GET", "/v1/routers", None, 5.0)


def test_no_token_goes_to_a_url_in_clear_where_members_have_tls() -> None:
    peers = peers_of(replace(SETTINGS, member_url="https://192.0.2.1:8080"))
    answer = peers.start(Member("b", "http://127.0.0.1:9", 0.0, "0"), CALL)
    with pytest.raises(PeerFailed, match="is in clear") as refused:
        answer()
    assert refused.value.undone


def test_without_tls_members_are_called_as_they_say() -> None:
    peers = peers_of(replace(SETTINGS, member_url="http://192.0.2.1:8080"))
    answer = peers.start(Member("b", "http://127.0.0.1:9", 0.0, "0"), CALL)
    with pytest.raises(PeerFailed, match="refused"):
        answer()
