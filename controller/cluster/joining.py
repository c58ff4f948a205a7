# SPDX-License-Identifier: Apache-2.0
"""Make this controller a member of the cluster that its settings name, if they name one."""

import socket
import time
from collections.abc import Callable
from importlib import metadata

from controller.cluster.membership import Membership
from controller.cluster.peers import Peers
from controller.cluster.view import Member
from controller.core.events import Event
from controller.settings import GROUP, Settings, WrongSettings
from hoaflow.etcd import EtcdAccess, EtcdClient
from hoaflow.etcd import options as etcd_options
from hoaflow.etcd.errors import EtcdAccessError

# Seconds that an endpoint of etcd has to answer, and all of them together.
ANSWER_WITHIN, ALL_WITHIN = 1.0, 3.0


def member_of(settings: Settings) -> Member:
    """Return this controller as the others are to know it."""
    name = settings.member or socket.gethostname()
    return Member(name, settings.member_url, time.time(), metadata.version("hoaflow"))


def etcd_access(settings: Settings) -> EtcdAccess:
    """Return how the controller and etcd know each other. Raises WrongSettings for a file that can't be used."""
    try:
        access = etcd_options.access({name: getattr(settings, name) for name in etcd_options.NAMES})
        etcd_options.check_files(access)
    except EtcdAccessError as error:
        raise WrongSettings(f"[{GROUP}] {error}") from None
    return access


def membership_of(
    settings: Settings,
    member: Member,
    peers: Peers,
    home_agents: Callable[[], frozenset[str]],
    announce: Callable[[Event], None],
) -> Membership | None:
    """Return the membership that the settings ask for, None for a controller alone (see `Membership`).

    Raises WrongSettings for a file for etcd that can't be used.
    """
    if not settings.etcd:
        return None
    client = EtcdClient(settings.etcd, etcd_access(settings), min(ANSWER_WITHIN, ALL_WITHIN / len(settings.etcd)))
    return Membership(client, settings.cluster, member, settings.member_lease, peers, home_agents, announce)
