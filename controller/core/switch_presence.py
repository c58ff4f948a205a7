# SPDX-License-Identifier: Apache-2.0
"""Know whether one switch is there, and which controller writes to it."""

from collections.abc import Mapping
from typing import NamedTuple

from controller.core import reasons
from controller.core.reasons import Reason


class Standby(NamedTuple):
    """Since when a switch is connected that another controller writes to, or none yet, on the caller's clock.

    ``stranger``: another cluster's marker in the switch, None for none.
    """

    since: float
    stranger: str | None


class SwitchPresence:
    """Whether one switch is connected, and to be written to or not. ``now`` is on the caller's clock."""

    def __init__(self, dpid: int, masters: Mapping[int, str], now: float) -> None:
        """``masters``: other controllers of a cluster, by the datapath id of the switches that they write to."""
        # Connected: this controller may write to the switch, and has read its flows. Else it may stand by.
        self.connected = False
        self.standby: Standby | None = None
        self.taken_by_stranger: float | None = None  # since when one fights for the switch that is none of the cluster
        self.disconnected_at = now
        # When this controller ended the connection, as its cluster has another master; None: the switch has come back.
        self.left_at: float | None = None
        self._dpid = dpid
        self._masters = masters

    def connect(self) -> bool:
        """Record that this controller may write to the switch, and has read its flows; tell whether that is news."""
        news, self.connected, self.standby, self.left_at = not self.connected, True, None, None
        return news

    def stand_by(self, stranger: str | None, now: float) -> None:
        """Record that the switch is there, and that another controller writes to it, or none yet."""
        since = now if self.standby is None else self.standby.since
        self.standby, self.left_at = Standby(since, stranger), None

    def disconnect(self, now: float) -> None:
        """Record that the connection is gone."""
        self.connected, self.standby = False, None
        self.disconnected_at = now

    def leave(self, now: float) -> None:
        """Record that this controller is to write to the switch no longer, and so ends the connection.

        The switch comes back by itself, and then this controller stands by.
        """
        self.left_at = now

    @property
    def is_there(self) -> bool:
        """Whether the switch is connected, to be written to or not."""
        return self.connected or self.standby is not None

    @property
    def master(self) -> str | None:
        """The other controller of the cluster that writes to the switch; None: this one, or none is known."""
        return self._masters.get(self._dpid)

    def why_not_connected(self) -> Reason | None:
        """Say why this controller does not write to the switch, None if it does."""
        if self.connected:
            return None
        if self.standby is None:
            return reasons.not_connected(self.disconnected_at, self.master)
        if self.standby.stranger is not None:
            return reasons.another_cluster(self.standby.stranger, self.standby.since)
        if self.master is not None:
            return reasons.other_master(self.master)
        if self.taken_by_stranger is not None:
            return reasons.taken_by_stranger(self.taken_by_stranger)
        return reasons.no_master(self.standby.since)
