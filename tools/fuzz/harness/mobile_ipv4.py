# SPDX-License-Identifier: Apache-2.0
"""Read what comes from mobile nodes, agents and strangers in Mobile IPv4."""

from dataclasses import replace
from unittest import mock

from hoaflow.mobile_ipv4 import advertisements, packets, wire

MAC = bytes(6)


def registration(data: bytes) -> None:
    """Read a Registration Request or Reply; what is accepted is built again and read as the same.

    What is relayed of it, and what its authenticator covers, is how it begins.
    """
    if data[:1] == bytes([wire.REPLY_TYPE]):
        reply = wire.parse_reply(data)
        again, found = wire.parse_reply(wire.reply(reply)), replace(reply, authentication=None)
        assert again == found, f"{found} is read back as {again}"
        authentication = reply.authentication
    else:
        request = wire.parse_request(data, "10.0.2.2", 434)
        plain = replace(wire.without_authentication(request), encapsulating_delivery=False)
        read = wire.parse_request(wire.request(request), request.source, request.port)
        assert read == plain, f"{plain} is read back as {read}"
        authentication = request.authentication
    if authentication is not None:
        assert data.startswith(authentication.message)


def packet_of_link(data: bytes) -> None:
    """Read a packet of an access link, with any checksum: a datagram, an Agent Advertisement or a solicitation.

    An advertisement or datagram that is accepted is built again and read as the same.
    """
    with (
        mock.patch.object(packets, "ones_complement_sum", return_value=packets.RIGHT),
        mock.patch.object(advertisements, "ones_complement_sum", return_value=packets.RIGHT),
    ):
        packet = packets.parse_ipv4(data, MAC)
        if packet is None:
            return
        advertisements.is_solicitation(packet)
        datagram = packets.parse_udp(packet)
        advertisement = advertisements.parse_advertisement(packet)
    if datagram is not None:
        ports = datagram.source_port, datagram.destination_port
        again = packets.parse_ipv4(
            packets.udp_packet(packet.source, packet.destination, ports, datagram.payload, packet.ttl), MAC
        )
        assert again is not None
        assert packets.parse_udp(again) == datagram
    if advertisement is not None:
        again = packets.parse_ipv4(advertisements.advertisement_packet(advertisement), MAC)
        assert again is not None
        assert advertisements.parse_advertisement(again) == advertisement
