# SPDX-License-Identifier: Apache-2.0
"""Hold the channels of all connected switches: one for each datapath id, that of its latest connection."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from eventlet.semaphore import Semaphore

from controller.core.sessions import Sessions
from controller.settings import Settings
from controller.southbound.channel import SwitchChannel
from controller.southbound.encoder import Encoder
from controller.southbound.roles import Mastership
from hoaflow.logs import Log

if TYPE_CHECKING:
    from ryu.controller.controller import Datapath

LOG = Log("southbound")


class Channels(Mapping[int, SwitchChannel]):
    """Map datapath ids to channels."""

    def __init__(self, sessions: Sessions, settings: Settings, notify: Callable[[], None]) -> None:
        """Call `notify` whenever a switch may have changed something in the core."""
        self._sessions = sessions
        self._settings = settings
        self._notify = notify
        self._encoder = Encoder(settings.first_table)
        self._open: dict[int, SwitchChannel] = {}
        self._packet_in_turn = Semaphore(1)
        # What says which switches to write to, where this controller is one of several. Set it before switches connect.
        self.mastership: Mastership | None = None

    def __getitem__(self, dpid: int) -> SwitchChannel:
        return self._open[dpid]

    def __iter__(self) -> Iterator[int]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def of(self, datapath: "Datapath") -> SwitchChannel | None:
        """Return the channel of a connection; None once its switch has connected anew."""
        channel = self._open.get(datapath.id)
        return channel if channel is not None and channel.datapath is datapath else None

    def open(self, datapath: "Datapath") -> SwitchChannel:
        """Open the channel of a connection whose handshake is complete, and end that of a former connection.

        The caller runs it (`SwitchChannel.run`).
        """
        if (former := self._open.get(datapath.id)) is not None:
            router, before = f"{datapath.id:016x}", former.datapath.address
            LOG.warning("switch-replaced", router=router, former=before, present=datapath.address)
            former.end()
        settings, session = self._settings, self._sessions.open(datapath.id, time.monotonic())
        times = settings.answer_within, settings.read_back_every
        channel = SwitchChannel(
            datapath, session, self._encoder, *times, self._notify, self.mastership, self._packet_in_turn
        )
        self._open.pop(datapath.id, None)  # to have the latest connection last
        self._open[datapath.id] = channel
        self._make_room()
        return channel

    # What the cluster decides (`controller.southbound.roles.Roles`).

    def take_role(self, dpid: int, generation: int) -> None:
        """Become a switch's MASTER."""
        if (channel := self._open.get(dpid)) is not None:
            channel.take_role(generation)

    def give_up(self, dpid: int) -> None:
        """Stop writing to a switch."""
        if (channel := self._open.get(dpid)) is not None:
            channel.give_up()

    def mastered_by(self, dpid: int, member: str | None) -> None:
        """Take in which other controller of the cluster is a switch's master; None: none, or this one."""
        self._sessions.mastered_by(dpid, member)
        self._notify()

    def taken_by_stranger(self, dpid: int, generation: int | None) -> None:
        """Take in that a stranger has taken a switch from this controller, its master with a generation; None: over."""
        self._sessions.taken_by_stranger(dpid, generation, time.monotonic())
        self._notify()

    def _make_room(self) -> None:
        """End the oldest channels of switches without an agent if there are too many.

        Anybody who reaches the OpenFlow port can connect a switch, and each makes every report and renewal dearer.
        """
        known = self._sessions.is_known
        unknown = [each for dpid, each in self._open.items() if not (each.session.ended or known(dpid))]
        for channel in unknown[: max(0, len(unknown) - self._settings.switches_without_agent)]:
            channel.end()
            self._sessions.turned_away(channel.dpid)
            self._notify()

    def close(self, datapath: "Datapath") -> None:
        """End the channel of a lost connection. Idempotent."""
        if (channel := self.of(datapath)) is not None:
            del self._open[datapath.id]
            channel.end()
            self._sessions.close(channel.session, time.monotonic())
