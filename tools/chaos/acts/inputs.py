# SPDX-License-Identifier: Apache-2.0
"""Feed the system with what nobody expects."""

from hoaflow.errors import HoaflowError
from tools.chaos.lab import REST_TIMEOUT, Lab
from topologies import addresses as at

UNKNOWN = 200  # home addresses


def second_bridge(lab: Lab, target: str) -> None:
    """Start another bridge for the same home agent."""
    lab.programs[f"{target}-twin"] = lab.programs[target]
    lab.launch(f"{target}-twin")


def no_second_bridge(lab: Lab, target: str) -> None:
    """End it."""
    lab.bed.stop(f"{target}-twin")
    del lab.programs[f"{target}-twin"]


def flood(lab: Lab, target: str) -> None:
    """Send many packets to home addresses that nobody has."""
    prefix = next(each for each in lab.plan.home_agents if each.name == target).prefix.partition("/")[0]
    lab.flood("cn", prefix + "f:{:x}")


def unknown_bindings(lab: Lab, target: str) -> None:
    """Report bindings to a controller, as an operator, of mobile nodes that no home agent knows."""
    for each in lab.plan.home_agents:
        bindings = [
            {
                "home_address": f"{each.prefix.partition('/')[0]}f:{number:x}",
                "care_of_address": f"{at.foreign_link(1).partition('/')[0]}f:{number:x}",
                "home_agent": each.address,
                "lifetime": 60,
            }
            for number in range(UNKNOWN)
        ]
        _tell(lab, target, "POST", "/v1/bindings", {"bindings": bindings})


def delete_bindings(lab: Lab, target: str) -> None:
    """Have an operator delete all bindings, while mobile nodes move and bridges report."""
    for node in lab.plan.mobile_nodes:
        _tell(lab, target, "DELETE", f"/v1/bindings/{node.home_address}")


def _tell(lab: Lab, controller: str, method: str, path: str, body: object = None) -> None:
    try:
        lab.clients[controller].request(method, path, (REST_TIMEOUT, REST_TIMEOUT), body)
    except HoaflowError:  # another fault has this controller
        return
