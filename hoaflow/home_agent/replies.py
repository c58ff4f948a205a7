# SPDX-License-Identifier: Apache-2.0
"""Send Binding Acknowledgements, Binding Errors (RFC 6275), Home Agent Switches and ICMPv6 Parameter Problems."""

import time
from ipaddress import IPv6Address

from hoaflow.home_agent.cache import Acknowledge, Binding
from hoaflow.logs import Log
from hoaflow.mobility import home_agent_switch, wire
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.extension_headers import ParameterProblemError
from hoaflow.mobility.home_agent_switch import HomeAgentSwitch
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.messages import BindingAcknowledgement, BindingError, BindingErrorStatus, Status
from hoaflow.mobility.packet_io import send_packet
from hoaflow.tunnel.rate_limit import RateLimit

LOG = Log("home-agent")


class Replies:
    """Sends and counts answers. The rate of those that strangers can provoke is limited (RFC 6275, section 9.3.3)."""

    def __init__(self, home_agent: str, counts: MessageCounts) -> None:
        self._home_agent = home_agent
        self._counts = counts
        self._errors_allowed = RateLimit(rate=10.0, burst=20)

    def acknowledge(self, action: Acknowledge) -> None:
        """Send a Binding Acknowledgement."""
        update, association = action.update, action.association
        acknowledgement = BindingAcknowledgement(
            source=self._home_agent,
            destination=update.source,
            home_address=update.home_address,
            sequence=action.sequence,
            status=action.status,
            lifetime=action.lifetime,
            mobile_router=update.mobile_router and action.status is not Status.MOBILE_ROUTER_NOT_PERMITTED,
            ipv4=action.ipv4,
        )
        if action.status is Status.AUTHENTICATION_FAILED and not self._errors_allowed.take(time.monotonic()):
            self._counts.drop("acknowledgements_suppressed", "to %s", update.source)
            return
        header = wire.binding_acknowledgement_header(acknowledgement, association.spi if association else None)
        if association is not None:
            covered = wire.authenticated_part(header)
            authenticator = association.authenticator(update.care_of_address, update.home_address, covered)
            header = wire.binding_acknowledgement_header(acknowledgement, association.spi, authenticator)
        if not self.send(wire.binding_acknowledgement_packet(acknowledgement, header)):
            return
        self._counts.acknowledgements[int(action.status)] += 1
        LOG.info(
            "binding-ack-sent",
            home_address=update.home_address,
            care_of_address=update.care_of_address,
            status=int(action.status),
            sequence=action.sequence,
            lifetime=action.lifetime,
        )

    def switch(self, binding: Binding, home_agents: tuple[str, ...], association: SecurityAssociation | None) -> None:
        """Tell a binding's mobile node to move to one of these home agents (RFC 5142)."""
        destination = binding.care_of_address
        message = HomeAgentSwitch(self._home_agent, destination, binding.home_address, home_agents)
        if self.send(home_agent_switch.build(message, association)):
            LOG.info(
                "home-agent-switch-sent",
                home_address=binding.home_address,
                care_of_address=destination,
                home_agents=",".join(home_agents),
            )

    def report_error(self, packet: wire.MobilityPacket, status: BindingErrorStatus) -> None:
        """Send a Binding Error to a packet's source, unless that can't be reached."""
        if not self._may_tell(packet.source):
            return
        error = BindingError(self._home_agent, packet.source, packet.home_address or "::", status)
        if self.send(wire.binding_error_packet(error)):
            self._counts.binding_errors[int(status)] += 1
            LOG.info(
                "binding-error-sent",
                destination=error.destination,
                home_address=error.home_address,
                status=int(status),
            )

    def report_problem(self, data: bytes, problem: ParameterProblemError) -> None:
        """Send an ICMPv6 Parameter Problem about a packet to its source (RFC 6275, section 9.2)."""
        if self._may_tell(str(IPv6Address(data[8:24]))):
            self.send(wire.parameter_problem_packet(self._home_agent, data, problem))

    def send(self, packet: bytes) -> bool:
        """Send a packet, and return whether that was possible."""
        try:
            send_packet(packet)
        except OSError as error:  # no route, or buffers full: the mobile node asks again
            LOG.warning("send-failed", destination=IPv6Address(packet[24:40]), reason=error)
            return False
        return True

    def _may_tell(self, source: str) -> bool:
        """Tell whether an error may be sent to this source now (RFC 6275, section 9.3.3; RFC 4443, section 2.4)."""
        address = IPv6Address(source)
        if address.is_unspecified or address.is_multicast or address.is_link_local:
            self._counts.drop("unanswerable", "from %s", source)
            return False
        if not self._errors_allowed.take(time.monotonic()):
            self._counts.drop("errors_suppressed", "to %s", source)
            return False
        return True
