# SPDX-License-Identifier: Apache-2.0
"""A Ryu application beside hoaflow's: it plays the part that decides on masters, as a test tells it.

It listens at the Unix socket of setting `[played] socket`. A request is a JSON array, a command of
`controller.southbound.roles.Roles` and its arguments, or empty; the answer is all that the switches have said so far.
"""

import json
import socket

from oslo_config import cfg
from ryu.base import app_manager
from ryu.lib import hub

from controller.southbound.channels import Channels

COMMANDS = ("take_role", "give_up", "mastered_by", "taken_by_stranger")


class PlayedMastership:
    """Notes what the switches say."""

    def __init__(self, cluster: str) -> None:
        self.identity: str | None = cluster
        self.said: list[tuple[object, ...]] = []

    def is_drained(self, dpid: int) -> bool:
        return False

    def switch_connected(self, dpid: int, generation: int | None) -> None:
        self.said.append(("switch_connected", dpid, generation))

    def switch_gone(self, dpid: int) -> None:
        self.said.append(("switch_gone", dpid))

    def role_taken(self, dpid: int, generation: int) -> None:
        self.said.append(("role_taken", dpid, generation))

    def role_refused(self, dpid: int, generation: int | None) -> None:
        self.said.append(("role_refused", dpid, generation))

    def overtaken(self, dpid: int) -> None:
        self.said.append(("overtaken", dpid))

    def wait_until_identified(self) -> None: ...

    def wait_until_certain(self) -> None: ...


class PlayedCluster(app_manager.RyuApp):
    def start(self) -> None:
        super().start()
        options = [cfg.StrOpt("socket"), cfg.StrOpt("cluster")]
        self.CONF.register_opts(options, "played")
        controller = app_manager.lookup_service_brick("HoaflowController")
        self._mastership = PlayedMastership(self.CONF.played.cluster)
        self._channels: Channels = controller._channels
        self._channels.mastership = self._mastership
        self.threads.append(hub.spawn(self._serve, self.CONF.played.socket))

    def _serve(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            while True:
                connection, _ = server.accept()
                with connection, connection.makefile("rw") as stream:
                    command, *arguments = json.loads(stream.readline()) or [None]
                    if command in COMMANDS:
                        getattr(self._channels, command)(*arguments)
                    stream.write(json.dumps(self._mastership.said) + "\n")
