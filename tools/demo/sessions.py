# SPDX-License-Identifier: Apache-2.0
"""Sessions of the demo of distributed mobility: each has an anchor, constant traffic, and a path."""

from dataclasses import dataclass, field
from pathlib import Path

from topologies import addresses as at
from topologies import path_trace
from topologies.dmm_deployment import SITES, DmmDeployment, home_address
from topologies.traffic import Records, Span, Traffic, lost, median_rtt

CENTRAL, DISTRIBUTED = "central", "distributed"
NODES = ("core", "mn", "ha", *(f"{kind}{site}" for kind in ("cn", "r", "ha") for site in SITES))
FIRST_PORT = 5300


@dataclass
class Session:
    """Constant traffic between the correspondent node of the site where it began and a home address.

    `architecture`: whether the home address is of the central home agent, or of the site where the session began.
    """

    site: int
    architecture: str
    traffic: Traffic
    records: tuple[Records, Records] = field(default_factory=lambda: (Records(), Records()))

    @property
    def anchor(self) -> str:
        """Return the node of the session's home agent."""
        return "ha" if self.architecture == CENTRAL else f"ha{self.site}"

    @property
    def home_address(self) -> str:
        """Return the mobile node's end."""
        return at.HOME_ADDRESS if self.architecture == CENTRAL else home_address(self.site)

    @property
    def name(self) -> str:
        """Return the session in words."""
        return f"cn{self.site} with {self.home_address}, anchor {self.anchor}"

    def away(self, *sites: int | str) -> bool:
        """Tell whether all of these links are foreign to its home agent."""
        return self.architecture == CENTRAL or self.site not in sites

    def path(self) -> path_trace.Path:
        """Return by which nodes its packets go now. Raises ProcessError, OSError."""
        source = f"cn{self.site}", at.site_correspondent(self.site)
        return path_trace.trace(self.traffic.bed, NODES, source, self.home_address)

    def stop(self) -> None:
        """End the session, and keep its records."""
        self.records = self.traffic.stop()

    def lost(self, span: Span) -> int:
        """Return how many of the packets sent within a span never arrived, both ways. It must have been stopped."""
        correspondent, mobile = self.records
        return len(lost(correspondent, mobile, span)) + len(lost(mobile, correspondent, span))

    def sent(self, span: Span) -> int:
        """Return how many packets were sent within a span, both ways."""
        return sum(span.start <= moment < span.end for end in self.records for moment in end.sent.values())

    def round_trip(self, span: Span) -> float:
        """Return the median round-trip time within a span, in milliseconds. Raises ValueError if there is none."""
        return median_rtt(self.records[0], span)


def begin(deployment: DmmDeployment, directory: Path, site: int, rate: float, drain: float) -> list[Session]:
    """Begin two sessions with the correspondent node of a site: one by each architecture. Raises ProcessError."""
    begun: list[Session] = []
    for architecture, home in ((CENTRAL, at.HOME_ADDRESS), (DISTRIBUTED, home_address(site))):
        traffic = Traffic(
            deployment.bed,
            directory,
            rate,
            drain,
            home,
            at.site_correspondent(site),
            node=f"cn{site}",
            name=f"{architecture}-{site}",
            port=FIRST_PORT + 2 * site + len(begun),
        )
        begun.append(Session(site, architecture, traffic))
    return begun
