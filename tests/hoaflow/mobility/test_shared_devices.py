# SPDX-License-Identifier: Apache-2.0
"""Which home addresses share a tunnel device, whatever comes."""

from hypothesis import given
from hypothesis import strategies as st

from hoaflow.mobility.shared_devices import SharedDevices

HOMES, CARE_OF_ADDRESSES = ("home1", "home2", "home3"), ("coa1", "coa2", "coa3")
STEPS = st.lists(st.tuples(st.sampled_from(HOMES), st.sampled_from((*CARE_OF_ADDRESSES, None))))


@given(STEPS)
def test_each_care_of_address_in_use_has_one_device_and_a_kernel_that_follows_has_those(
    steps: list[tuple[str, str | None]],
) -> None:
    shared, wanted = SharedDevices("t"), dict[str, str]()
    kernel: dict[str, str] = {}  # device → remote address
    routes: dict[str, str] = {}  # home address → device
    for home, care_of_address in steps:
        if care_of_address is None:
            wanted.pop(home, None)
            routes.pop(home, None)
            unused = shared.release(home)
        else:
            wanted[home] = care_of_address
            device, points_anew, leads_anew, unused = shared.assign(home, care_of_address)
            assert not (points_anew and device in routes.values() and routes.get(home) != device), "others use it"
            kernel |= {device: care_of_address} if points_anew else {}
            routes |= {home: device} if leads_anew else {}
        if unused is not None:
            del kernel[unused]
        assert {home: kernel[device] for home, device in routes.items()} == wanted
        assert sorted(kernel.values()) == sorted(set(wanted.values()))
        assert (kernel, routes) == (shared.remotes, shared.devices)
        assert kernel.keys() <= {f"t{number}" for number in range(1, len(HOMES) + 2)}


def test_who_is_alone_behind_its_care_of_address_keeps_its_device_in_a_handover() -> None:
    shared = SharedDevices("t")
    shared.assign("home1", "coa1")
    assert shared.assign("home1", "coa2") == ("t1", True, False, None)
    shared.assign("home2", "coa2")
    assert shared.assign("home1", "coa3") == ("t2", True, True, None)
    assert shared.assign("home1", "coa2") == ("t1", False, True, "t2")
