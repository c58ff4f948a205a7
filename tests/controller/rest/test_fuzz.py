# SPDX-License-Identifier: Apache-2.0
"""Each call of a real controller, with what its description allows and with what it does not.

Only declared answers come back, none of them a 500, and what is against the description is refused.
"""

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from controller.rest.api import OPERATIONS
from controller.rest.openapi import document
from tests.support.bench import registered
from tests.support.controller import TIMEOUT, Controller
from tests.support.ovs import Ovs

EXAMPLES = 12  # of each call

schemathesis.openapi.format("ip-address", st.ip_addresses().map(str))
schemathesis.openapi.format(
    "home-address", st.ip_addresses().map(str) | st.ip_addresses(v=6).map(lambda ip: str(ipaddress.ip_network(ip)))
)
schema = schemathesis.openapi.from_dict(document(OPERATIONS, tokens=False))
schema.config.generation.modes = list(GenerationMode)
# What a schema can't say is refused all the same: which addresses fit together, or that a sequence number is old.
schema.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "404", "409", "422", "503"]
schema.config.checks.not_a_server_error.expected_statuses = ["2xx", "4xx", "503"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ovs, Controller]]:
    """Provide a controller with the switch, home agent and binding that the description's examples are about."""
    directory = tmp_path_factory.mktemp("fuzz")
    with Ovs(directory) as ovs:
        with Controller(ovs, directory, "request_timeout = 1") as controller:
            registered(ovs, controller)
            yield ovs, controller
        controller.assert_log_clean()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_only_what_is_declared_is_answered(running: tuple[Ovs, Controller], case: Case[Any]) -> None:
    ovs, controller = running
    if case.path == "/v1/events":
        case.query["follow"] = "no"  # else the answer has no end
    if "wait" in case.query and case.path.endswith("/tunnels"):
        case.query["wait"] = "0"  # else it takes that long
    # One wrong binding of several does not hold up the others: it is refused within the answer.
    several = isinstance(case.body, dict) and isinstance(case.body.get("bindings"), list)
    with ovs.inside():
        case.call_and_validate(
            base_url=controller.url, timeout=TIMEOUT, excluded_checks=[negative_data_rejection] if several else []
        )
