# SPDX-License-Identifier: Apache-2.0
"""Which mobile networks a mobile router may have (RFC 3963, sections 6.1.2 and 6.2)."""

from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from hoaflow.home_agent.cache import Action, BindingCache, Install
from hoaflow.home_agent.prefix_table import PrefixTable, PrefixTableError, load_prefix_table
from hoaflow.mobility.messages import BindingUpdate, Status
from tests.support.binding_cache import CARE_OF_1, CARE_OF_2, HOME_ADDRESS, POLICY, answer, only, registered, update

OTHER = "2001:db8:99::101"
NETWORK_1, NETWORK_2, OTHERS = "2001:db8:aa:1::/64", "2001:db8:aa:2::/64", "2001:db8:aa:8::/61"
TABLE = PrefixTable({HOME_ADDRESS: (NETWORK_1, NETWORK_2), OTHER: (OTHERS,)})
NEMO = replace(POLICY, mobile_networks=TABLE)


def of_router(
    *networks: str, care_of: str = CARE_OF_1, sequence: int = 1, home: str = HOME_ADDRESS, **changes: object
) -> BindingUpdate:
    """Return a mobile router's Binding Update that names these networks."""
    return update(care_of, sequence, home, mobile_router=True, mobile_networks=networks, **changes)


def status(actions: list[Action]) -> Status:
    return answer(actions)[0]


@pytest.mark.parametrize(
    ("named", "registered_networks"),
    [((), (NETWORK_1, NETWORK_2)), ((NETWORK_2,), (NETWORK_2,))],
    ids=["implicit mode: all", "explicit mode: the named ones"],
)
def test_a_mobile_router_registers_its_networks(named: tuple[str, ...], registered_networks: tuple[str, ...]) -> None:
    cache = registered(NEMO, of_router(*named))
    assert only(cache).mobile_networks == registered_networks


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        (of_router(OTHERS), Status.NOT_AUTHORISED_FOR_PREFIX),
        (of_router(NETWORK_1, OTHERS), Status.NOT_AUTHORISED_FOR_PREFIX),
        (of_router("2001:db8:bb::/64"), Status.INVALID_PREFIX),
        (of_router("2001:db8:aa:1::/80"), Status.INVALID_PREFIX),
        (of_router(home="2001:db8:99::102"), Status.MOBILE_ROUTER_NOT_PERMITTED),
        (of_router(care_of="2001:db8:aa:1::5"), Status.ADMINISTRATIVELY_PROHIBITED),
    ],
    ids=["another's", "one of them another's", "nobody's", "a part", "no mobile router", "care-of address inside"],
)
def test_what_a_mobile_router_may_not_have_is_refused(asked: BindingUpdate, refused: Status) -> None:
    cache = BindingCache(NEMO)
    assert status(cache.update(asked, 0.0)) is refused
    assert len(cache) == 0


def test_a_mobile_node_stays_one_and_a_mobile_router_too_until_it_deregisters() -> None:
    cache = registered(NEMO, of_router(NETWORK_1))
    assert status(cache.update(update(sequence=2), 5.0)) is Status.REGISTRATION_TYPE_CHANGE
    assert only(cache).mobile_networks == (NETWORK_1,)
    # A deregistration may come without the flag.
    assert status(cache.update(update(HOME_ADDRESS, 3, lifetime=0), 6.0)) is Status.ACCEPTED
    cache = registered(NEMO, update())
    assert status(cache.update(of_router(NETWORK_1, sequence=2), 5.0)) is Status.REGISTRATION_TYPE_CHANGE


def test_another_set_of_networks_takes_the_place_of_the_former() -> None:
    cache = registered(NEMO, of_router(NETWORK_1))
    (install,) = cache.update(of_router(NETWORK_2, care_of=CARE_OF_2, sequence=2), 5.0)
    assert isinstance(install, Install)
    assert install.binding.mobile_networks == (NETWORK_2,)


def test_a_mobile_router_whose_tunnels_the_kernel_refuses_learns_that() -> None:
    cache = registered(NEMO, of_router())
    assert status(cache.install_failed(HOME_ADDRESS, 2.0)) is Status.FORWARDING_SETUP_FAILED


def test_mobile_networks_may_lie_in_one_another_but_in_no_circle() -> None:
    cache = registered(NEMO, of_router(care_of="2001:db8:aa:8::5"))
    assert status(cache.update(of_router(care_of="2001:db8:aa:1::5", home=OTHER), 2.0)) is (
        Status.ADMINISTRATIVELY_PROHIBITED
    )
    # Elsewhere, the other one may be.
    cache.update(of_router(care_of=CARE_OF_2, home=OTHER), 3.0)
    assert len(cache) == 2


def test_a_restart_keeps_networks_that_the_table_still_has() -> None:
    kept = of_router(NETWORK_1)
    (install,) = BindingCache(NEMO).restore(kept, 60, 30.0, 0.0)
    assert isinstance(install, Install)
    assert install.binding.mobile_networks == (NETWORK_1,)
    assert BindingCache(POLICY).restore(kept, 60, 30.0, 0.0) == []


def test_the_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "networks.toml"
    path.write_text(f'"2001:DB8:99:0::100" = ["2001:db8:aa:1:0::/64", "{NETWORK_2}"]\n')
    assert load_prefix_table(path, POLICY.home_prefix).of(HOME_ADDRESS) == (NETWORK_1, NETWORK_2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "not TOML"),
        ('"here" = ["2001:db8:aa::/64"]', "expected an IPv6 address"),
        ('"2001:db8:98::1" = ["2001:db8:aa::/64"]', "not in the home prefix"),
        ('"2001:db8:99::1" = []', "expected a list of prefixes"),
        ('"2001:db8:99::1" = "2001:db8:aa::/64"', "expected a list of prefixes"),
        ('"2001:db8:99::1" = ["2001:db8:aa::1/64"]', "bits set beyond"),
        ('"2001:db8:99::1" = ["2001:db8:aa::1"]', "up to 126 bits"),
        ('"2001:db8:99::1" = ["10.0.0.0/24"]', "expected an IPv6 prefix"),
        ('"2001:db8:99::1" = ["ff00::/16"]', "multicast"),
        ('"2001:db8:99::1" = ["2001:db8::/32"]', "overlaps the home prefix"),
        ('"2001:db8:99::1" = ["2001:db8:aa::/48"]\n"2001:db8:99::2" = ["2001:db8:aa:1::/64"]', "overlap"),
        (
            '"2001:db8:99::1" = ["2001:db8:aa::/64"]\n"2001:db8:99:0::1" = ["2001:db8:ab::/64"]',
            "2001:db8:99::1 is there already, spelled differently",
        ),
    ],
)
def test_wrong_tables_are_refused_in_words(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "networks.toml"
    path.write_text(text)
    with pytest.raises(PrefixTableError, match=said):
        load_prefix_table(path, IPv6Network("2001:db8:99::/64"))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefixTableError, match="nowhere: No such file"):
        load_prefix_table(tmp_path / "nowhere", POLICY.home_prefix)
