# SPDX-License-Identifier: Apache-2.0
"""Read files that an operator writes, or that a crash or a failing disk has damaged."""

import logging
import tempfile
import zlib
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Network
from pathlib import Path

from oslo_config import cfg

from controller.access.tokens import read_tokens
from controller.settings import load
from hoaflow.client.token_file import TOKEN, read_token
from hoaflow.home_agent.cache import BindingCache, Policy
from hoaflow.home_agent.ipv4_home_addresses import load_ipv4_home_addresses
from hoaflow.home_agent.journal import HEADER, Journal
from hoaflow.home_agent.persistence import Persistence
from hoaflow.home_agent.prefix_table import load_prefix_table
from hoaflow.mobile_ipv4 import authentication as mobile_ipv4
from hoaflow.mobility.authentication import load_keys
from hoaflow.pmipv6.mobile_nodes import load_mobile_nodes

SHARED_MEMORY = Path("/dev/shm")  # a journal waits for the disk
HOME_PREFIX = IPv6Network("2001:db8:99::/64")
IPV4_HOME_LINK = IPv4Interface("10.99.0.1/24")
POLICY = Policy("2001:db8:99::1", HOME_PREFIX, 3600, 100, None)

logging.getLogger("hoaflow").addHandler(logging.NullHandler())


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)


def _file(data: bytes, name: str) -> Path:
    """Return a file with this content, which nobody else can read."""
    path = Path(_scratch().name) / name
    path.touch(0o600)
    path.write_bytes(data)
    return path


def journal(data: bytes) -> None:
    """Read a journal; what was found is found again, and nothing of it is damaged any more."""
    path = _file(data, "journal")
    first = Journal(path)
    first.close()
    again = Journal(path)
    again.close()
    assert again.damages == []
    assert again.records == {key: record for key, record in first.records.items() if not record.empty}
    _restore(path)


def journal_records(data: bytes) -> None:
    """Read a journal of these records, each with the right checksum: as another version may have written them."""
    lines = (b"%08x %s\n" % (zlib.crc32(line), line) for line in data.split(b"\n"))
    journal(HEADER + b"".join(lines))


def _restore(path: Path) -> None:
    """Start a home agent's binding cache from a journal, and write all that it then knows."""
    persistence = Persistence(path)
    cache = BindingCache(POLICY, persistence.sequences)
    persistence.restore(cache)
    for home_address in {each.home_address for each in cache} | cache.sequences.keys():
        persistence.record(cache, home_address)
    persistence.commit(cache)
    cache.tick(0.0)
    persistence.close()


def tokens(data: bytes) -> None:
    """Read a controller's tokens file."""
    assert read_tokens(_file(data, "tokens"))


def token(data: bytes) -> None:
    """Read a client's token file: what comes of it can be sent in a header."""
    assert TOKEN.fullmatch(read_token(_file(data, "token")))


def keys(data: bytes) -> None:
    """Read a home agent's keys."""
    for association in load_keys(_file(data, "keys")).values():
        association.authenticator("2001:db8:2::2", "2001:db8:99::100", b"")


def keys_of_mobile_ipv4(data: bytes) -> None:
    """Read the keys of a home agent of Mobile IPv4; each signs."""
    for home_address, association in mobile_ipv4.load_keys(_file(data, "keys")).items():
        assert IPv4Address(home_address)
        association.sign(b"")


def mobile_networks(data: bytes) -> None:
    """Read a home agent's mobile networks; each address of one leads to its mobile router, none is of the home link."""
    table = load_prefix_table(_file(data, "mobile-networks"), HOME_PREFIX)
    for prefix, router in table:
        network = IPv6Network(prefix)
        assert not network.overlaps(HOME_PREFIX)
        assert table.router_of(str(network[-1])) == router
        assert prefix in table.of(router)


def ipv4_home_addresses(data: bytes) -> None:
    """Read a home agent's IPv4 home addresses."""
    load_ipv4_home_addresses(_file(data, "ipv4-home-addresses"), HOME_PREFIX, IPV4_HOME_LINK)


def mobile_nodes(data: bytes) -> None:
    """Read an anchor's mobile nodes; each has an address in each of its prefixes."""
    for node in load_mobile_nodes(_file(data, "mobile-nodes")).values():
        for prefix in node.prefixes:
            assert IPv6Address(node.address(prefix)) in IPv6Network(prefix)


def settings(data: bytes) -> None:
    """Read a controller's settings; what is accepted is enough to log with."""
    conf = cfg.ConfigOpts()
    conf(["--config-file", str(_file(data, "controller.conf"))])
    load(conf).log.formatter()
