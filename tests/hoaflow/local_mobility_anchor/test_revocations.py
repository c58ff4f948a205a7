# SPDX-License-Identifier: Apache-2.0
"""Revocations are repeated until they are acknowledged (RFC 5846)."""

from hoaflow.local_mobility_anchor.revocations import ATTEMPTS, Revocations
from hoaflow.pmipv6.messages import RevocationAcknowledgement, Trigger, timestamp_of
from tests.support.proxy_mobility import LMA, MAG_1, MAG_2, MOBILE_NODE, OTHER_NODE, OTHER_PREFIX, PREFIX


def revoked() -> Revocations:
    revocations = Revocations(LMA)
    revocations.revoke(MAG_1, MOBILE_NODE, (PREFIX,), Trigger.HANDOVER, 0.0)
    return revocations


def test_without_an_acknowledgement_it_is_sent_again_and_then_given_up() -> None:
    revocations = revoked()
    sent = [message for second in range(10) for message in revocations.tick(float(second), 100.0 + second)]
    assert [message.timestamp for message in sent] == [timestamp_of(100.0 + n) for n in range(ATTEMPTS)]
    assert revocations.next_due() is None


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


def test_each_node_that_a_dead_gateway_had_is_revoked_by_itself() -> None:
    revocations = revoked()
    revocations.revoke(MAG_1, OTHER_NODE, (OTHER_PREFIX,), Trigger.HANDOVER, 0.0)
    revocations.revoke(MAG_2, MOBILE_NODE, (PREFIX,), Trigger.HANDOVER, 0.0)
    revocations.revoke(MAG_1, MOBILE_NODE, (PREFIX,), Trigger.HANDOVER, 0.0)  # it was back meanwhile
    sent = {(each.destination, each.identifier): each.sequence for each in revocations.tick(0.0, 0.0)}
    assert sent.keys() == {(MAG_1, MOBILE_NODE), (MAG_1, OTHER_NODE), (MAG_2, MOBILE_NODE)}
    assert not revocations.acknowledged(RevocationAcknowledgement(MAG_1, LMA, 1, 0, MOBILE_NODE)), "withdrawn"
    assert revocations.acknowledged(RevocationAcknowledgement(MAG_1, LMA, sent[MAG_1, MOBILE_NODE], 0, MOBILE_NODE))
    assert {(each.destination, each.identifier) for each in revocations.tick(1.0, 0.0)} == {
        (MAG_1, OTHER_NODE),
        (MAG_2, MOBILE_NODE),
    }
