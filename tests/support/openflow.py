# SPDX-License-Identifier: Apache-2.0
"""OpenFlow messages of every version that Ryu knows, to feed its parsers: what a real switch sends, and what not."""

import select
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.ovs import Ovs

VERSIONS = {1: "OpenFlow10", 3: "OpenFlow12", 4: "OpenFlow13", 5: "OpenFlow14", 6: "OpenFlow15"}
_BARRIER_REQUEST = {1: 18}  # 20 in all later versions
_LAST_XID = 0xFFFF
_PACKET = "ffffffffffff02000000000186dd" + "6000000000003b40" + "20010db8" + "00" * 12 + "20010db8" + "00" * 11 + "01"

# A switch that has something to tell about everything: actions of all sorts, groups, a meter, goto and metadata.
_METER = "meter=1,kbps,burst,stats,band=type=drop,rate=100,burst_size=10"
_GROUPS = (
    "group_id=1,type=select,bucket=weight:1,actions=set_field:02:00:00:00:00:07->eth_dst,output:1,"
    "bucket=weight:2,actions=output:2",
    "group_id=2,type=ff,bucket=watch_port:1,actions=output:1,bucket=watch_port:2,actions=output:2",
)
_FLOWS_10 = (
    "cookie=1,priority=9,ip,nw_dst=192.0.2.0/24,actions=mod_vlan_vid:5,mod_dl_dst:02:00:00:00:00:07,"
    "mod_nw_src:192.0.2.1,mod_nw_tos:4,mod_tp_dst:7,strip_vlan,enqueue:1:1,output:2",
)
_FLOWS_NICIRA = (
    "cookie=2,tcp6,ipv6_dst=2001:db8::/64,actions=load:1->NXM_NX_REG0[],"
    "move:NXM_NX_REG0[]->NXM_NX_REG1[],push:NXM_NX_REG0[],pop:NXM_NX_REG1[],resubmit(,1),note:00.01.02,"
    "dec_ttl(1,2),set_tunnel64:7,fin_timeout(idle_timeout=3),exit",
    "cookie=3,tcp,actions=learn(table=1,idle_timeout=9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
    "load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[])",
    "cookie=8,udp,tp_dst=7,actions=conjunction(4,1/2)",
    "cookie=4,udp,actions=multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[]),"
    "bundle_load(eth_src,50,hrw,ofport,NXM_NX_REG0[],slaves:1,2),ct(commit,table=2,zone=3,nat(src=192.0.2.1),"
    "exec(load:1->NXM_NX_CT_MARK[])),sample(probability=9,collector_set_id=1,obs_domain_id=2,obs_point_id=3),"
    "controller(max_len=64,id=7,userdata=01.02)",
)
_FLOWS_13 = (
    "cookie=5,table=2,ipv6,ipv6_dst=2001:db8::1,actions=meter:1,dec_ttl,set_field:2001:db8::2->ipv6_src,"
    "push_vlan:0x8100,set_field:4101->vlan_vid,group:1,write_metadata:0x1/0xff,goto_table:3",
    "cookie=6,table=2,mpls,actions=dec_mpls_ttl,pop_mpls:0x0800,set_queue:1,output:1,clear_actions,"
    "write_actions(set_field:02:00:00:00:00:07->eth_dst,output:2)",
    "cookie=7,table=2,priority=1,send_flow_rem,in_port=1,actions=controller:128",
)


def message(version: int, msg_type: int, body: bytes = b"", xid: int = 1) -> bytes:
    """Return an OpenFlow message with a correct header."""
    return struct.pack("!BBHI", version, msg_type, 8 + len(body), xid) + body


def prepare(ovs: Ovs) -> None:
    """Add the bridge br0 that `record` asks, for all versions."""
    ovs.add_bridge("br0", dpid=7)
    ovs.vsctl("set", "bridge", "br0", "protocols=" + ",".join(VERSIONS.values()))
    ovs.add_port("br0", "p1", 1)
    ovs.add_port("br0", "p2", 2)
    qos = ["--", "--id=@qos", "create", "qos", "type=linux-noop", "queues=1=@queue", "--", "--id=@queue"]
    ovs.vsctl("set", "port", "p1", "qos=@qos", *qos, "create", "queue", "other_config:max-rate=1000000")
    ovs.run("ovs-ofctl", "-O", "OpenFlow13", "add-meter", "br0", _METER)
    for group in _GROUPS:
        ovs.run("ovs-ofctl", "-O", "OpenFlow15", "add-group", "br0", group)
    for version, flows in {"OpenFlow10": _FLOWS_10 + _FLOWS_NICIRA, "OpenFlow13": _FLOWS_13}.items():
        for flow in flows:
            ovs.run("ovs-ofctl", "-O", version, "add-flow", "br0", flow)


def record(ovs: Ovs, version: int) -> list[bytes]:
    """All that the bridge of `prepare` answers in one version to one request of each kind, and what it says unasked.

    Raises TimeoutError when a message that has to come does not.
    """
    name = VERSIONS[version]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(ovs.directory / "br0.mgmt"))
        incoming = _messages(connection)
        connection.sendall(message(version, 0))  # Hello
        connection.sendall(message(version, 9, struct.pack("!HH", 0, 128)))  # set config: asks for packet-ins, too
        connection.sendall(b"".join(_requests(version)))
        connection.sendall(message(version, _BARRIER_REQUEST.get(version, 20), xid=_LAST_XID))
        received = _read_until(incoming, lambda seen: seen[-1][4:8] == struct.pack("!I", _LAST_XID))
        ovs.run("ovs-ofctl", "-O", "OpenFlow13", "add-flow", "br0", _FLOWS_13[-1])
        ovs.run("ovs-ofctl", "-O", name, "packet-out", "br0", f"in_port=1 packet={_PACKET} actions=controller")
        ovs.run("ovs-ofctl", "-O", "OpenFlow13", "--strict", "del-flows", "br0", "table=2,priority=1,in_port=1")
        ovs.add_port("br0", f"new{version}", 10 + version)
        unasked = {10, 11, 12}  # packet-in, flow removed, port status
        received += _read_until(incoming, lambda seen: unasked <= {item[1] for item in seen})
    return received


def record_controller(ovs: Ovs, version: int) -> list[bytes]:
    """Return what ovs-ofctl sends to set flows, groups and a meter as `prepare` does; Ryu parses that as well."""
    name = VERSIONS[version]
    flows = {1: _FLOWS_10 + _FLOWS_NICIRA, 3: _FLOWS_NICIRA}.get(version, _FLOWS_NICIRA + _FLOWS_13)
    commands = [("add-flow", flow) for flow in flows]
    if version > 1:
        commands += [("mod-group", group) for group in _GROUPS]
    if version > 3:
        commands += [("mod-meter", _METER)]
    path = ovs.directory / f"relay-{version}.sock"
    said = bytearray()
    with socket.socket(socket.AF_UNIX) as server, ThreadPoolExecutor() as pool:
        server.bind(str(path))
        server.listen()
        relay = pool.submit(_relay, server, ovs.directory / "br0.mgmt", said)
        try:
            for command, argument in commands:
                ovs.run("ovs-ofctl", "-O", name, command, f"unix:{path}", argument)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            relay.result()
    return list(_split(said))


def _relay(server: socket.socket, target: Path, said: bytearray) -> None:
    """Relay connections to the switch, one after the other, until the server is shut down."""
    while True:
        try:
            controller, _ = server.accept()
        except OSError:
            return
        with controller, socket.socket(socket.AF_UNIX) as switch:
            switch.connect(str(target))
            peers = {controller: switch, switch: controller}
            while controller.fileno() >= 0:
                for source in select.select(list(peers), [], [], 10)[0]:
                    data = source.recv(65536)
                    if source is controller:
                        said += data
                    if not data:
                        controller.close()
                        break
                    peers[source].sendall(data)


def _requests(version: int) -> Iterator[bytes]:
    """Yield a request of each kind that the version has, and one that gets an error."""
    yield message(version, 2, b"echo")
    yield message(version, 5)  # features
    yield message(version, 7)  # get config
    yield message(version, 99)  # no such type
    anything = b"\xff" * 4
    if version == 1:
        flows = struct.pack("!I36xBxH", 0xFFFFFFFF, 0xFF, 0xFFFF)
        queues = struct.pack("!HxxI", 0xFFFC, 0xFFFFFFFF)
        bodies = {0: b"", 1: flows, 2: flows, 3: b"", 4: struct.pack("!H6x", 0xFFFF), 5: queues}
        yield message(version, 20, struct.pack("!Hxx", 1))  # queue config
    else:
        flows = struct.pack("!B3x4s4s4xQQHH4x", 0xFF, anything, anything, 0, 0, 1, 4)
        group, meter = struct.pack("!I4x", 0xFFFFFFFC), struct.pack("!I4x", 0xFFFFFFFF)
        monitor = struct.pack("!I4s4sHBBHH4x", 1, anything, anything, 0x1F, 0xFF, 0, 1, 4)
        # Multipart types 0 to 19, as numbered in all versions that have them.
        bodies = {0: b"", 1: flows, 2: flows, 3: b"", 4: anything + bytes(4), 5: anything * 2, 6: group}
        bodies |= {7: group if version == 6 else b"", 8: b"", 9: meter, 10: meter, 11: b"", 12: b""}
        bodies |= {13: anything + bytes(4) if version == 6 else b"", 14: b"", 15: anything * 2, 16: monitor}
        bodies |= {17: flows, 18: b"", 19: bytes(8)}
        yield message(version, 22, anything + bytes(4)) if version < 5 else message(version, 26)
        yield message(version, 24, bytes(16))  # role
        yield message(version, 26)  # asynchronous configuration
        if version >= 5:
            yield message(version, 33, struct.pack("!IHH", 1, 0, 1))  # bundle
        else:
            yield message(version, 4, struct.pack("!IIIHH", 0x4F4E4600, 2300, 1, 0, 1))
    for kind, body in bodies.items():
        if version == 1:
            yield message(version, 16, struct.pack("!HH", kind, 0) + body)
        else:
            yield message(version, 18, struct.pack("!HH4x", kind, 0) + body)


def _read_until(incoming: Iterator[bytes], complete: Callable[[list[bytes]], bool]) -> list[bytes]:
    seen: list[bytes] = []
    for item in incoming:
        seen.append(item)
        if complete(seen):
            return seen
    raise ConnectionError(f"the switch closed the connection after {len(seen)} messages")


def _messages(connection: socket.socket) -> Iterator[bytes]:
    buffer = bytearray()
    while received := connection.recv(65536):
        buffer += received
        yield from _split(buffer)


def _split(buffer: bytearray) -> Iterator[bytes]:
    """Take the complete messages off the front of the buffer."""
    while len(buffer) >= 8 and len(buffer) >= (length := struct.unpack_from("!H", buffer, 2)[0]):
        yield bytes(buffer[:length])
        del buffer[:length]
