# SPDX-License-Identifier: Apache-2.0
"""Send an emulated mobile node's Binding Updates, receive what home agents send, and report both."""

from collections.abc import Iterator

from hoaflow.mobility import home_agent_switch, wire
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.extension_headers import ROUTING, MalformedPacketError
from hoaflow.mobility.home_agent_switch import HomeAgentSwitch
from hoaflow.mobility.messages import BindingAcknowledgement, BindingUpdate
from hoaflow.mobility.neighbours import unsolicited_advertisement
from hoaflow.mobility.packet_io import LinkSender, PacketReceiver, addressed_to, send_packet
from topologies.link_follower import report
from topologies.registration import Outcome


def signalling_for(address: str) -> PacketReceiver:
    """Receive the Mobility Headers to a home or care-of address. Raises OSError."""
    return PacketReceiver(addressed_to(address, (ROUTING, wire.MOBILITY_HEADER)))


def send_binding_update(update: BindingUpdate, association: SecurityAssociation | None) -> None:
    """Send an update, authenticated if there is an association (RFC 4285)."""
    header = wire.binding_update_header(update, association.spi if association else None)
    if association is not None:
        covered = wire.authenticated_part(header)
        authenticator = association.authenticator(update.care_of_address, update.home_address, covered)
        header = wire.binding_update_header(update, association.spi, authenticator)
    try:
        send_packet(wire.binding_update_packet(update, header))
    except OSError as error:  # the link goes down this moment: its event is on the way
        report("binding-update-not-sent", reason=str(error))
        return
    report(
        "binding-update-sent",
        home_address=update.home_address,
        sequence=update.sequence,
        care_of_address=update.care_of_address,
        lifetime=update.lifetime,
    )


def messages(receiver: PacketReceiver) -> Iterator[BindingAcknowledgement | HomeAgentSwitch]:
    """Yield the acknowledgements and switches that have arrived; report Binding Errors and what is malformed."""
    for data in receiver.packets():
        try:
            packet = wire.parse_packet(data)
            if packet.mobility_type == wire.BINDING_ERROR:
                error = wire.parse_binding_error(packet)
                report("binding-error", source=error.source, status=error.status)
            elif packet.mobility_type == wire.BINDING_ACKNOWLEDGEMENT:
                yield wire.parse_binding_acknowledgement(packet)
            elif packet.mobility_type == home_agent_switch.HOME_AGENT_SWITCH:
                yield home_agent_switch.parse(packet)
        except MalformedPacketError as error:
            report("malformed-packet", reason=str(error))


def report_switch(message: HomeAgentSwitch, taken: bool) -> None:
    """Report that a home agent tells the node to move to another, and whether it does (RFC 5142, section 6)."""
    event = "home-agent-switch" if taken else "home-agent-switch-ignored"
    report(event, home_address=message.home_address, source=message.source, home_agents=message.home_agents)


def report_outcome(acknowledgement: BindingAcknowledgement, outcome: Outcome) -> None:
    """Report what an acknowledgement meant."""
    report(
        "acknowledgement-ignored" if outcome is Outcome.IGNORED else outcome.value,
        home_address=acknowledgement.home_address,
        sequence=acknowledgement.sequence,
        status=acknowledgement.status,
        care_of_address=acknowledgement.destination,
        lifetime=acknowledgement.lifetime,
    )


def advertise(home_link: str, home_address: str) -> None:
    """Advertise the home address on the home link, taking it back from the proxy (RFC 6275, 11.5.5)."""
    sender = LinkSender(home_link)
    try:
        mac = sender.link_layer_address
        sender.multicast(unsolicited_advertisement(home_address, home_address, mac))
    except OSError as error:  # the home link went down again
        report("advertisement-not-sent", reason=str(error))
    finally:
        sender.close()
