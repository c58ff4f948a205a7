# SPDX-License-Identifier: Apache-2.0
"""What the command line's tests share: home addresses, and bindings as bridge and agent report them."""

from tests.support.bench import CN, TIN, Bench
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs

OTHER = "2001:db8:99::200"
UNBROKEN = ("      table=", "      actions=")  # a flow's match and actions, which may be longer than a line
# Has bash complete a line.
COMPLETE = """
source <(hoaflow --show-completion bash)
COMP_LINE={line!r} COMP_POINT=${{#COMP_LINE}} COMP_TYPE=9 COMP_KEY=9
_hoaflow_completion hoaflow
[ ${{#COMPREPLY[@]}} = 0 ] || printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def connected(ovs: Ovs, controller: Controller) -> Bench:
    """Return a bridge with its ports, connected to the controller."""
    ovs.add_bridge("br0", 0x1A, OPENFLOW_PORT)
    ovs.add_port("br0", "cn", CN)
    ovs.add_port("br0", "tin", TIN)
    return Bench(ovs, controller)


def post(bench: Bench, *bindings: dict[str, object]) -> None:
    """Report bindings as the bridge does, and acknowledge their tunnels as the agent does."""
    answer = bench.controller.call("POST", "/v1/bindings", {"bindings": list(bindings)})
    assert answer.status == 200, answer
    assert all(result["status"] < 300 for result in answer.body["results"]), answer
    bench.agent(0x1A)
