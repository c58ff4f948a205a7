# SPDX-License-Identifier: Apache-2.0
"""Declare kinds of objects that only home agents, anchors and access gateways have; `hoaflow.tunnel` has the others."""

import socket
from collections.abc import Iterable
from dataclasses import replace

from hoaflow.linux import AF_INET6, LOCAL_TABLE, MAIN_TABLE
from hoaflow.mobility import former_settings
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.links import setting_path
from hoaflow.tunnel.objects import Setting
from hoaflow.tunnel.routing import MAIN_RULE, Rule


class RestoredSetting:
    """A setting of the host, below net/`protocol`: `remove` restores the value from before `make`.

    That value is recorded in the kernel, so a later process restores what one changed that was killed.
    """

    def __init__(self, key: str, value: str, protocol: str = "ipv6") -> None:
        self._setting = Setting(None, protocol, key, value)
        self._path = setting_path(key, protocol)
        self._before: str | None = None
        self.name = f"net.{protocol}.conf.{key}"

    def __str__(self) -> str:
        return str(self._setting)

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        recorded = former_settings.recorded(actual).get(self.name)
        self._before = self._before or recorded
        if recorded != self._before:
            return f"the former value of {self.name} is not recorded"
        return self._setting.difference(actual)

    def make(self) -> None:
        """See `Declared`."""
        recorded = _recorded_settings()
        self._before = self._before or recorded.get(self.name)
        if self._before is None and self._path.exists():
            self._before = self._path.read_text().strip()
        if self._before is not None and recorded.get(self.name) != self._before:
            former_settings.record(recorded | {self.name: self._before})
        self._setting.make()

    def remove(self) -> None:
        """See `Declared`."""
        recorded = _recorded_settings()
        before = self._before or recorded.get(self.name)
        if before is not None and self._path.exists():
            self._path.write_text(before)
        self._before = None
        if recorded.pop(self.name, None) is not None:
            former_settings.record(recorded)


def restore_others(declaration: Iterable[Declared]) -> None:
    """Restore the settings that a killed process changed and that are not declared any more. Raises OSError, NftError.

    It may have had other options, or have been another one of our programs.
    """
    declared = {each.name for each in declaration if isinstance(each, RestoredSetting)}
    for name in sorted(_recorded_settings().keys() - declared, key=lambda name: ".all." not in name):  # sets the others
        _, protocol, _, key = name.split(".", 3)
        RestoredSetting(key, "", protocol).remove()


def _recorded_settings() -> dict[str, str]:
    with ActualState() as actual:
        return former_settings.recorded(actual)


class MainRule:
    """A rule looks into table main for all packets; `ip rule flush` removes it, and the host then routes nothing.

    It is the host's: it may have any preference, and `remove` leaves it.
    """

    def __init__(self, family: int = AF_INET6) -> None:
        self._family = family
        self._rule = Rule(None, MAIN_RULE, MAIN_TABLE, family)

    def __str__(self) -> str:
        return str(self._rule)

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        all_packets = self._rule.facts  # a rule of our own for some packets does not count
        there = any(rule.facts == all_packets for rule in actual.rules(None, self._family))
        return None if there else "no rule looks into table main for all packets"

    def make(self) -> None:
        """See `Declared`."""
        self._rule.make()

    def remove(self) -> None:
        """See `Declared`."""


class LocalRule:
    """The rule for table `local` has this preference, and none has an earlier one; the kernel's own has 0.

    It is declared where the rules that must come before it exist at every moment.
    """

    def __init__(self, preference: int, not_tunnelled_to: str = "", family: int = AF_INET6) -> None:
        """Declare it. It does not apply to IPv6-in-IPv6 packets to `not_tunnelled_to`."""
        self._kernels = Rule(None, 0, LOCAL_TABLE, family)
        self._rule = Rule(None, preference, LOCAL_TABLE, family)
        if not_tunnelled_to:
            condition = f"{not_tunnelled_to}/128"
            self._rule = Rule(None, preference, LOCAL_TABLE, dst=condition, ip_proto=socket.IPPROTO_IPV6, invert=True)

    def __str__(self) -> str:
        return str(self._rule)

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        early = self._early(actual)
        return self._rule.difference(actual) or (f"rule {early[0]} looks into table local first" if early else None)

    def make(self) -> None:
        """See `Declared`."""
        self._rule.make()
        with ActualState() as actual:
            early = self._early(actual)
        for preference in early:
            replace(self._kernels, preference=preference).remove()

    def remove(self) -> None:
        """See `Declared`."""
        self._kernels.make()
        self._rule.remove()

    def _early(self, actual: ActualState) -> list[int]:
        """Return the earlier preferences of rules that look into table local for any packet."""
        all_packets = self._kernels.facts
        rules = actual.rules(None, self._kernels.family)
        return [
            rule.preference for rule in rules if rule.preference < self._rule.preference and rule.facts == all_packets
        ]
