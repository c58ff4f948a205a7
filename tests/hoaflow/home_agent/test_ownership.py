# SPDX-License-Identifier: Apache-2.0
"""Whatever order leases end in and pods write in, at most one pod may acknowledge, and nothing acknowledged is lost."""

import time
from collections.abc import Iterator
from ipaddress import IPv6Network
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoaflow.etcd import EtcdClient
from hoaflow.etcd.messages import delete
from hoaflow.etcd.options import endpoints_and_name
from hoaflow.home_agent.cache import BindingCache, Policy
from hoaflow.home_agent.journal import decoded
from hoaflow.home_agent.pods.keys import Keys, owner_value
from hoaflow.home_agent.pods.ownership import Ownership
from hoaflow.home_agent.pods.shared_cache import SharedCache
from hoaflow.home_agent.pods.standby import Standby
from hoaflow.mobility.messages import BindingUpdate
from tests.support.etcd import Etcd

HOME_AGENT, CARE_OF, LIFETIME = "2001:db8:99::1", "2001:db8:2::2", 600
POLICY = Policy(HOME_AGENT, IPv6Network("2001:db8:99::/64"), 3600, 1000, None)
NODES = [f"2001:db8:99::{number:x}" for number in range(0x100, 0x103)]
PODS = ("ha", "hb", "hc")
FOR_EVER = 1000  # seconds: leases end when a step ends them


class Pod:
    """A pod that does what it is told, whatever it should have noticed: it never looks whether it is the owner."""

    def __init__(self, client: EtcdClient, keys: Keys, name: str) -> None:
        self._client, self._keys, self._name = client, keys, name
        self.cache: SharedCache | None = None
        self.bindings = BindingCache(POLICY)

    def stand_by(self) -> None:
        """Take the address if it is free, with all that has been written."""
        if self._client.get(self._keys.owner) is None:
            self.close()  # of an earlier time
            standby = Standby(self._client, self._keys, self._name, FOR_EVER)
            self.cache = standby.wait()
            assert self.cache is not None
            self.bindings = BindingCache(POLICY, self.cache.sequences)
            self.cache.restore(self.bindings)

    def acknowledge(self, node: str) -> int | None:
        """Take a Binding Update with the next sequence number in; return that if it may be acknowledged."""
        if self.cache is None:
            return None
        known = self.bindings.get(node)
        sequence = 1 if known is None else known.update.sequence + 1
        update = BindingUpdate(CARE_OF, HOME_AGENT, node, CARE_OF, sequence, LIFETIME)
        assert self.bindings.restore(update, LIFETIME, LIFETIME, time.monotonic())
        self.cache.record(self.bindings, node)
        return sequence if self.cache.commit(self.bindings, answering=True) else None

    @property
    def lease(self) -> int:
        return 0 if self.cache is None else self.cache.ownership.lease

    def close(self) -> None:
        if self.cache is not None:
            self.cache.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdClient]:
    with (
        Etcd(tmp_path_factory.mktemp("etcd"), members=1) as etcd,
        EtcdClient(etcd.endpoints, timeout=60.0) as opened,
    ):
        yield opened


names = count()
pods = st.sampled_from(PODS)
steps = st.one_of(
    st.tuples(st.just("update"), pods, st.sampled_from(NODES)),
    st.tuples(st.just("stand by"), pods, st.just("")),
    # etcd has had no sign of life; the pod, stopped or cut off, knows nothing of it.
    st.tuples(st.just("lease ends"), pods, st.just("")),
    st.tuples(st.just("key deleted"), st.just(""), st.just("")),
)


@pytest.mark.expected_log("event=ownership-lost")
@settings(max_examples=40)
@given(st.lists(steps, min_size=4, max_size=25))
def test_never_two_acknowledging_owners(client: EtcdClient, steps: list[tuple[str, str, str]]) -> None:
    keys = Keys(f"test{next(names)}", HOME_AGENT)
    running = {name: Pod(client, keys, name) for name in PODS}
    acknowledged: dict[str, int] = {}
    owner: str | None = None  # by etcd
    try:
        for step, name, node in steps:
            match step:
                case "stand by":
                    running[name].stand_by()
                    owner = owner or name
                case "lease ends":
                    if running[name].lease:
                        client.revoke_lease(running[name].lease)
                    owner = None if owner == name else owner
                case "key deleted":
                    client.transact([], [delete(keys.owner)])
                    owner = None
                case "update":
                    sequence = running[name].acknowledge(node)
                    assert (sequence is not None) == (owner == name)
                    if sequence is not None:
                        assert sequence == acknowledged.get(node, 0) + 1, "what others acknowledged is known"
                        acknowledged[node] = sequence
        for node, sequence in acknowledged.items():
            found = client.get(keys.binding(node))
            assert found is not None
            assert decoded(found.value).update.sequence == sequence  # type: ignore[union-attr]
    finally:
        for pod in running.values():
            pod.close()


def test_of_two_that_want_an_address_one_gets_it(client: EtcdClient) -> None:
    key = Keys("race", HOME_AGENT).owner
    first = Ownership.acquire(client, key, owner_value("ha", 0), FOR_EVER)
    assert first is not None
    assert Ownership.acquire(client, key, owner_value("hb", 0), FOR_EVER) is None
    first.close()
    second = Ownership.acquire(client, key, owner_value("hb", 0), FOR_EVER)
    assert second is not None
    assert second.write([])
    assert not first.write([])
    second.close()


@pytest.mark.parametrize(
    "text", ["", "etcd://", "etcd://host", "etcd://host:2379", "etcd://host:2379/", "http://host:2379/a", "etcd://:1/a"]
)
def test_a_cache_that_cannot_be_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        endpoints_and_name(text)


def test_several_members_of_etcd_are_taken() -> None:
    urls = ("http://192.0.2.1:2379", "http://[2001:db8::2]:2379")
    assert endpoints_and_name("etcd://192.0.2.1:2379,[2001:db8::2]:2379/lab") == (urls, "lab")
    assert endpoints_and_name("etcds://192.0.2.1:2379/lab") == (("https://192.0.2.1:2379",), "lab")
