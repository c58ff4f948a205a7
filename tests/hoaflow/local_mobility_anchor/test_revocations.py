# SPDX-License-Identifier: Apache-2.0
"""Revocations are repeated until they are acknowledged (RFC 5846)."""

from hoaflow.local_mobility_anchor.revocations import ATTEMPTS, Revocations
from hoaflow.pmipv6.messages import RevocationAcknowledgement, Trigger, timestamp_of
from tests.support.proxy_mobility import LMA, MAG_1, MAG_2, MOBILE_NODE, PREFIX


def revoked() -> Revocations:
    revocations = Revocations(LMA)
    revocations.revoke(MAG_1, MOBILE_NODE, (PREFIX,), Trigger.HANDOVER, 0.0)
    return revocations


def test_without_an_acknowledgement_it_is_sent_again_and_then_given_up() -> None:
    revocations = revoked()
    sent = [message for second in range(10) for message in revocations.tick(float(second), 100.0 + second)]
    assert [message.timestamp for message in sent] == [timestamp_of(100.0 + n) for n in range(ATTEMPTS)]
    assert not list(revocations.next_due())


def test_its_acknowledgement_ends_it() -> None:
    revocations = revoked()
    (message,) = revocations.tick(0.0, 0.0)
    assert not revocations.acknowledged(RevocationAcknowledgement(MAG_2, LMA, message.sequence, 0, MOBILE_NODE))
    assert revocations.acknowledged(RevocationAcknowledgement(MAG_1, LMA, message.sequence, 0, MOBILE_NODE))
    assert not list(revocations.tick(9.0, 0.0))


def test_a_node_that_is_back_is_not_revoked() -> None:
    revocations = revoked()
    revocations.withdraw(MAG_1, MOBILE_NODE)
    assert not list(revocations.tick(0.0, 0.0))
