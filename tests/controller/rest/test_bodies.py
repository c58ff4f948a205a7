# SPDX-License-Identifier: Apache-2.0
"""What bodies may say: members that stand twice, and what a router's agent announces of its backend."""

import gc
import io
import json
import weakref

import pytest
from werkzeug.test import create_environ

from controller.rest.problems import Problem
from controller.rest.schemas.bodies import AcknowledgementBody, BindingBody
from controller.rest.schemas.decoding import decode
from tests.support.rest_api import BINDING, Api

FLOW = (
    '{"revision": 0, "flow": {"transmit_port": "tx", "receive_port": "rx", "router_mac": "02:00:00:00:00:0c",'
    ' "decapsulation_address": "ADDRESS", "decapsulation_mac": "MAC"}}'
)


def announce(address: str = "fd00::f1", mac: str = "02:00:00:00:00:0A") -> None:
    body = FLOW.replace("ADDRESS", address).replace("MAC", mac)
    assert decode(body.encode(), AcknowledgementBody).core_flow() is not None


def test_a_unique_local_address_is_one_that_mobile_nodes_may_reach() -> None:
    announce()


@pytest.mark.parametrize("address", ["::1", "::", "fe80::1", "ff02::1"])
def test_an_address_that_no_mobile_node_reaches_is_refused(address: str) -> None:
    with pytest.raises(Problem, match="decapsulation_address"):
        announce(address=address)


@pytest.mark.parametrize("mac", ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"])
def test_a_mac_address_that_is_no_single_station_is_refused(mac: str) -> None:
    with pytest.raises(Problem, match="decapsulation_mac"):
        announce(mac=mac)


ENDPOINT = {"home_agent": "2001:db8:99::1", "port": "tin", "mac": "02:00:00:00:00:0a"}


def test_one_backend_and_one_endpoint_for_each_home_agent() -> None:
    def announced(**more: object) -> AcknowledgementBody:
        return decode(json.dumps({"revision": 0, **more}).encode(), AcknowledgementBody)

    assert len(announced(endpoints=[ENDPOINT]).core_endpoints()) == 1
    with pytest.raises(Problem, match="one endpoint for each home agent"):
        announced(endpoints=[ENDPOINT, ENDPOINT | {"home_agent": "2001:DB8:99:0::1"}]).core_endpoints()
    flow = json.loads(FLOW.replace("ADDRESS", "fd00::f1").replace("MAC", "02:00:00:00:00:0a"))["flow"]
    with pytest.raises(Problem, match="a router has one backend"):
        announced(endpoints=[ENDPOINT], flow=flow).core_endpoints()


@pytest.mark.parametrize("first", ['"2001:db8:2::2"', "7"])
def test_of_a_member_that_stands_twice_the_last_counts_and_the_first_is_checked(first: str) -> None:
    body = f'{{"home_address": "2001:db8:99::100", "care_of_address": {first}, "care_of_address": "2001:db8:3::2"}}'
    if first == "7":
        with pytest.raises(Problem, match="care_of_address"):
            decode(body.encode(), BindingBody)
    else:
        assert decode(body.encode(), BindingBody).care_of_address == "2001:db8:3::2"


def test_a_body_is_let_go_of_once_it_is_answered(api: Api) -> None:
    """Snapshots have megabytes: hundreds would lie about until Python looks for garbage among all objects."""
    body = io.BytesIO(json.dumps(BINDING).encode())
    left = weakref.ref(body)
    environ = create_environ("/v1/bindings", method="POST", input_stream=body)
    gc.disable()
    try:
        assert list(api.application(environ, lambda status, headers, exc_info=None: lambda data: None))
        del environ, body
        assert left() is None
    finally:
        gc.enable()
