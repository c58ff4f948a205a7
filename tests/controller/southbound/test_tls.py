# SPDX-License-Identifier: Apache-2.0
"""OpenFlow over TLS with a real Open vSwitch: whose switches are let in, and what strangers can't do."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.controller import OPENFLOW_PORT, TIMEOUT, Controller
from tests.support.ovs import Ovs
from tests.support.pki import Authority, CertifiedKey
from tests.support.waiting import wait_for
from topologies.waiting import patient

HELLO = bytes.fromhex("04 00 0008 00000001")


class Tls:
    """A controller that wants certificates of its switches, and the authority that signs them."""

    def __init__(self, ovs: Ovs, directory: Path) -> None:
        self.ovs = ovs
        self.authority = Authority(directory / "ca")
        self.stranger = Authority(directory / "stranger")
        pair = self.authority.server("controller", "127.0.0.1")
        options = ["--ctl-cert", str(pair.certificate), "--ctl-privkey", str(pair.key)]
        options += ["--ca-certs", str(self.authority.certificate), "--ofp-ssl-listen-port", str(OPENFLOW_PORT)]
        self.controller = Controller(ovs, directory, options=options)

    def identify_switch(self, pair: CertifiedKey, ca: Path) -> None:
        """Set the certificate that the switch shows, and the authority that it trusts."""
        self.ovs.vsctl("set-ssl", str(pair.key), str(pair.certificate), str(ca))

    def add_bridge(self, name: str, dpid: int) -> None:
        """Add a bridge that connects over TLS."""
        self.ovs.add_bridge(name, dpid)
        self.ovs.vsctl("set-controller", name, f"ssl:127.0.0.1:{OPENFLOW_PORT}")
        self.ovs.vsctl("set", "controller", name, "max_backoff=1000", "inactivity_probe=5000")

    def connected(self) -> list[str]:
        """Return the datapath ids of the switches that are connected."""
        return [router["dpid"] for router in self.controller.get("/v1/routers")["routers"] if router["connected"]]

    def socket(self) -> socket.socket:
        """Return a connection to the OpenFlow port, with nothing said yet."""
        with self.ovs.inside():
            return socket.create_connection(("127.0.0.1", OPENFLOW_PORT), timeout=TIMEOUT)

    def context(self, pair: CertifiedKey | None) -> ssl.SSLContext:
        """Return a switch's side of TLS."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


@pytest.fixture
def tls(ovs: Ovs, tmp_path: Path) -> Iterator[Tls]:
    made = Tls(ovs, tmp_path)
    with made.controller:
        yield made
    made.controller.assert_log_clean([r"event=reload-failed"])


def test_switches_of_the_authority_are_let_in_and_no_others(tls: Tls) -> None:
    tls.identify_switch(tls.authority.client("switch"), tls.authority.certificate)
    # More than one: Ryu's own TLS is used up by the first connection.
    for dpid in (1, 2, 3):
        tls.add_bridge(f"br{dpid}", dpid)
    wait_for("all are connected", lambda: len(tls.connected()) == 3)
    assert len(tls.ovs.ofctl("dump-flows", "br1").splitlines()) > 1
    tls.identify_switch(tls.stranger.client("switch"), tls.authority.certificate)
    tls.ovs.vsctl("del-controller", "br1")
    tls.add_bridge("br4", 4)
    wait_for("the stranger is refused", lambda: "event=switch-refused peer=127.0.0.1" in tls.controller.log)
    assert "0000000000000004" not in tls.connected()


@pytest.mark.expected_ovs_log(r"stream_ssl")
def test_a_switch_believes_only_a_controller_of_the_authority(tls: Tls) -> None:
    tls.identify_switch(tls.authority.client("switch"), tls.stranger.certificate)
    tls.add_bridge("br0", 1)
    wait_for(
        "the switch refuses",
        lambda: "certificate verify failed" in (tls.ovs.directory / "ovs-vswitchd.log").read_text(),
    )
    assert tls.connected() == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
@pytest.mark.parametrize("who", ["nobody", "stranger", "server", "expired", "plain", "old"])
def test_who_has_no_certificate_of_a_client_gets_no_hello(tls: Tls, who: str) -> None:
    pairs: dict[str, Callable[[], CertifiedKey | None]] = {
        "nobody": lambda: None,
        "stranger": lambda: tls.stranger.client("switch"),
        "server": lambda: tls.authority.server("another", "127.0.0.1"),
        "expired": lambda: tls.authority.client("expired", days=-1),
        "plain": lambda: None,
        "old": lambda: tls.authority.client("old"),
    }
    pair = pairs[who]()
    received = b""
    with tls.socket() as connection:
        if who == "plain":
            connection.sendall(HELLO)
            with contextlib.suppress(OSError):
                received = connection.recv(8)
            assert received[:1] != b"\x04"  # a TLS alert at most
            return
        context = tls.context(pair)
        if who == "old":
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        # With TLS 1.3 a client learns only after its handshake that it is not wanted.
        with contextlib.suppress(OSError):
            received = context.wrap_socket(connection, server_hostname="127.0.0.1").recv(8)
    assert received == b""
    wait_for("it is told", lambda: "event=switch-refused" in tls.controller.log)


def test_handshakes_that_never_end_hold_nobody_up(tls: Tls) -> None:
    tls.identify_switch(tls.authority.client("switch"), tls.authority.certificate)
    silent = [tls.socket() for _ in range(50)]
    try:
        for connection in silent[::2]:
            connection.sendall(b"\x16\x03\x01")  # the beginning of a handshake
        tls.add_bridge("br0", 1)
        wait_for("the switch is connected", lambda: tls.connected() == ["0000000000000001"])
        for connection in silent:
            assert connection.recv(100) in (b"", b"\x15\x03\x03\x00\x02\x02\x50")
    finally:
        for connection in silent:
            connection.close()


def test_what_somebody_on_the_path_forges_ends_the_connection_and_nothing_else(tls: Tls) -> None:
    pair = tls.authority.client("switch")
    with tls.socket() as connection:
        secured = tls.context(pair).wrap_socket(connection, server_hostname="127.0.0.1")
        assert secured.recv(8)[:2] == b"\x04\x00"
        # Below TLS, on the same connection: a record that can't be decrypted.
        raw = socket.socket(fileno=os.dup(secured.fileno()))
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert tls.controller.get("/healthz") == {"status": "ok"}
        with contextlib.suppress(OSError):
            while raw.recv(4096):
                pass
        raw.close()
        secured.close()


def test_new_certificates_are_taken_over_by_sighup(tls: Tls) -> None:
    tls.identify_switch(tls.authority.client("switch"), tls.authority.certificate)
    tls.add_bridge("br0", 1)
    wait_for("the switch is connected", lambda: tls.connected() == ["0000000000000001"])

    def serial() -> int:
        with tls.socket() as connection:
            secured = tls.context(tls.authority.client("somebody")).wrap_socket(connection, server_hostname="127.0.0.1")
            return int(secured.getpeercert()["serialNumber"], 16)  # type: ignore[index, arg-type]

    former = serial()
    pair = tls.authority.server("controller", "127.0.0.1")
    assert serial() == former
    tls.controller.hang_up()
    wait_for("it is read", lambda: "event=reloaded what=openflow-certificates" in tls.controller.log)
    new = serial()
    assert new != former
    pair.key.write_text("gone wrong")
    tls.controller.hang_up()
    wait_for("it is told", lambda: "event=reload-failed what=openflow-certificates" in tls.controller.log)
    assert serial() == new
    assert tls.connected() == ["0000000000000001"]


@pytest.mark.parametrize("missing", ["--ctl-cert", "--ctl-privkey", "--ca-certs"])
def test_half_of_the_options_do_not_start_a_controller_in_clear(tmp_path: Path, missing: str) -> None:
    authority = Authority(tmp_path)
    pair = authority.server("controller", "127.0.0.1")
    options = {"--ctl-cert": pair.certificate, "--ctl-privkey": pair.key, "--ca-certs": authority.certificate}
    del options[missing]
    command = [str(Path(sys.executable).with_name("ryu-manager"))]
    command += [word for name, file in options.items() for word in (name, str(file))]
    done = subprocess.run(
        [*command, "controller/app.py"], cwd=CHECKOUT, capture_output=True, text=True, timeout=patient(60), check=False
    )
    assert done.returncode == 2
    assert f"missing: {missing}" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_tls_sighup_does_not_end_the_controller(ovs: Ovs, tmp_path: Path) -> None:
    with Controller(ovs, tmp_path) as controller:
        controller.hang_up()
        assert controller.get("/healthz") == {"status": "ok"}
        controller.kill(signal.SIGTERM)
