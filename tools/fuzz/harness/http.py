# SPDX-License-Identifier: Apache-2.0
"""Read HTTP requests, and compare what is accepted with another reader, as a proxy in front would be."""

import io

import eventlet.wsgi
import h11

from controller.rest.http.chunks import ChunkFraming
from controller.rest.http.head import read_head

LARGEST = 1 << 16


def head(data: bytes) -> None:
    """Read a head. What is accepted has the framing that h11 finds, if that accepts it, and ends where h11 ends it."""
    stream = io.BytesIO(data)
    found = read_head(stream.readline(), stream)
    ended = stream.tell()
    other = h11.Connection(h11.SERVER)
    try:
        other.receive_data(data)
        event = other.next_event()
    except h11.RemoteProtocolError:
        return
    if not isinstance(event, h11.Request):
        return  # it waits for more where this one has found an end: it takes only CRLF for one
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
    assert found.method == event.method.decode("latin-1")
    assert found.target == event.target.decode("latin-1")
    for name in ("host", "content-length", "transfer-encoding"):
        ours = {value.lower() for value in found.headers.get_all(name, [])}
        theirs = {value.lower() for each, value in headers if each == name}
        assert ours == theirs, f"{name}: {ours}, but h11 finds {theirs}"
    assert other.trailing_data[0] == b"" or data[ended:].startswith(other.trailing_data[0][:1])


def chunks(data: bytes) -> None:
    """Read a chunked body. What is accepted as whole has the content that h11 finds, if that accepts it."""
    received = io.BytesIO(data)
    body = eventlet.wsgi.Input(received, None, None, chunked_input=True)
    framing = body.rfile = ChunkFraming(received)
    try:
        content = body.read(LARGEST)
    except (ValueError, OSError):
        return
    if not framing.complete:
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    parts: list[bytes] = []
    try:
        other.next_event()
        while isinstance(event := other.next_event(), h11.Data):
            parts.append(bytes(event.data))
    except h11.RemoteProtocolError:
        return
    if isinstance(event, h11.EndOfMessage):
        assert content == b"".join(parts), "another reader finds another body"
