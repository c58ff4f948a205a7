# SPDX-License-Identifier: Apache-2.0
"""Deploy hoaflow and distributed mobility on the topology `dmm`: a home agent and a bridge at each site."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from topologies import addresses as at
from topologies.deployment import START_TIMEOUT, Deployment, HomeAgentSite, keys_of
from topologies.load import AnchorLoad
from topologies.processes import Process

SITES = (1, 2, 3)
ADVERTISED = 1
"""Seconds between Router Advertisements, at most: nobody shall wait for one in an emulation."""


def site(number: int) -> HomeAgentSite:
    """Return where the home agent of a site runs."""
    node = f"ha{number}"
    address = at.site_address(number, at.SITE_HOME_AGENT)
    return HomeAgentSite(f"home-agent-{number}", node, f"{node}-home", address, at.site_prefix(number))


def home_address(number: int) -> str:
    """Return the home address that the mobile node takes from the home agent of a site."""
    return at.site_address(number, at.SITE_HOME_ADDRESS)


def _beside(journal: Path | None, number: int) -> Path | None:
    """Return the journal of a site's home agent, beside that of the central one."""
    return None if journal is None else journal.with_name(f"{site(number).program}.journal")


def _rights(number: int) -> str:
    where = site(number)
    return f'may = "bridge"\nhome_agent = "{where.home_agent}"\nhome_prefixes = ["{where.home_prefix}"]\n'


class DmmDeployment(Deployment):
    """Run the central home agent in `ha`, those of the sites in `ha1` to `ha3`, the mobile node in `mn`."""

    other_clients: ClassVar[dict[str, str]] = {f"bridge-{number}": _rights(number) for number in SITES}
    keys_file: ClassVar[str] = keys_of(at.HOME_ADDRESS)

    @property
    def anchors(self) -> tuple[str, ...]:
        """Return the addresses of all home agents, the central one first."""
        return (self.anchor, *(site(number).home_agent for number in SITES))

    def start_anchor(self, journal: Path | None = None) -> Process:
        """Start all home agents, each of which advertises itself. Returns the central one."""
        launched = [self._launch_site(number, _beside(journal, number)) for number in SITES]
        central = self.start_central(journal)
        for home_agent in launched:
            self.serving(home_agent)
        return central

    def anchor_options(self) -> list[str]:
        """Return the option by which the mobile node finds the central home agent."""
        return ["--advertise", str(ADVERTISED)]

    def start_central(self, journal: Path | None = None) -> Process:
        """Start the central home agent."""
        return super().start_anchor(journal)

    def start_site(self, number: int, journal: Path | None = None) -> Process:
        """Start the home agent of a site."""
        return self.serving(self._launch_site(number, journal))

    def _launch_site(self, number: int, journal: Path | None) -> Process:
        keys = self._keys(f"keys-{number}.toml", number)
        return self.launch_home_agent(site(number), keys, journal, *self.anchor_options())

    def start_mobile_node(self) -> list[Process]:
        """Start the mobile node away from the central home link."""
        self.bed.set_link("mn", "mn-home", up=False)
        command = [sys.executable, "-m", "topologies.distributed_node", "--lifetime", str(self.lifetime)]
        for number in SITES:
            command += ["--link", f"{self.links()[number]}={at.site_address(number, at.SITE_ROUTER)}"]
        command += ["--lasting", at.HOME_PREFIX]
        keys = self._keys("keys-mn.toml", *SITES)
        keys.write_text(self.keys_file + keys.read_text())
        process = self.bed.start("mobile-node", [*command, "--keys", str(keys)], node="mn")
        process.wait_for(r'"event": ?"started"', START_TIMEOUT)
        return [process]

    def start_bridge(self) -> Process:
        """Start a bridge beside each home agent, without waiting; returns the one of the central home agent."""
        for number in SITES:
            self.start_site_bridge(number)
        return super().start_bridge()

    def start_site_bridge(self, number: int) -> Process:
        """Start the bridge beside the home agent of a site."""
        where, client = site(number), f"bridge-{number}"
        return self.start_bridge_of(where.home_agent, [where.home_prefix], where.node, client, client)

    def programs(self, state: Path) -> dict[str, Callable[[], Process]]:
        """Return what starts each program, by name; `state` is the directory of the home agents' journals."""
        found = super().programs(state)
        found[self.anchor_program] = partial(self.start_central, state / "home-agent.journal")
        found["bridge"] = super().start_bridge
        for number in SITES:
            name = site(number).program
            found[name] = partial(self.start_site, number, _beside(state / "home-agent.journal", number))
            found[f"bridge-{number}"] = partial(self.start_site_bridge, number)
        return found

    def links(self) -> dict[str | int, str]:
        """Return the mobile node's interface on the link of each site, by its number."""
        return {number: f"mn-f{number}" for number in SITES}

    def care_of_address(self, link: str | int) -> str:
        """Return the mobile node's care-of address at a site."""
        return at.site_address(int(link), at.SITE_CARE_OF_ADDRESS)

    def homes(self) -> tuple[str, ...]:
        """Return the home addresses that have a binding now."""
        return tuple(binding["home_address"] for binding in self.bindings())

    def bindings(self) -> list[dict[str, Any]]:
        """Return all bindings as the controller reports them."""
        return list(self.rest("GET", "/v1/bindings")["bindings"])

    def bring_back(self, number: int) -> None:
        """Connect the home agent of a site again after its link was down, when the kernel forgot its addresses."""
        where = site(number)
        self.bed.set_link(where.node, where.home_link, up=True)
        self.bed.run(
            "ip", "addr", "replace", f"{where.home_agent}/64", "dev", where.home_link, "nodad", node=where.node
        )
        gateway = at.site_address(number, at.SITE_ROUTER)
        self.bed.run("ip", "-6", "route", "replace", "default", "via", gateway, node=where.node)

    def load(self, number: int) -> AnchorLoad:
        """Count the data packets that reach the home agent of a site from now on."""
        where = site(number)
        return AnchorLoad(self.bed, where.home_agent, home_address(number), where.node, where.home_link)

    def _keys(self, name: str, *numbers: int) -> Path:
        """Write a file with the keys of the home addresses of some sites."""
        file = self.bed.logs.parent / name
        file.touch(mode=0o600)
        file.write_text("".join(keys_of(home_address(number)) for number in numbers))
        return file
