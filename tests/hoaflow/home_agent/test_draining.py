# SPDX-License-Identifier: Apache-2.0
"""A home agent that drains: its mobile nodes move to another one of the home link, and no packet is lost (RFC 5142)."""

from pathlib import Path

from tests.support.counting import COUNT, ECHO
from tests.support.mobility import CARE_OF_1, HOME_ADDRESS, HOME_AGENT, HOST, Lab

OFTEN = ("--advertise", "2")
SPI_AND_KEY = f'["{HOME_ADDRESS}"]\nspi = 1000\nkey = "000102030405060708090a0b0c0d0e0f"\n'


def drain(lab: Lab, *arguments: str) -> str:
    """Return what the terminal of the first home agent answers to `drain`."""
    command = " ".join(("drain", *arguments))
    return lab.console("prompt no", command).decode().split("\0")[1].strip()


def test_a_mobile_node_moves_from_a_draining_home_agent_to_another_and_no_packet_is_lost(
    lab: Lab, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(SPI_AND_KEY)
    keys.chmod(0o600)
    first = lab.home_agent("--keys", str(keys), *OFTEN)
    node = lab.mobile_node("--keys", str(keys))
    lab.link("m1", "up")
    node.event("registered", care_of_address=CARE_OF_1)
    assert drain(lab, "yes") == "no other home agent is heard on the home link"
    assert drain(lab) == "no"

    other = lab.other_home_agent("--keys", str(keys), *OFTEN)
    first.logged("event=home-agent-heard", HOST)
    other.logged("event=home-agent-heard", HOME_AGENT)
    lab.script("mn", ECHO, HOME_ADDRESS).out.wait(lambda line: line == "ready")
    assert lab.ping("cn", HOME_ADDRESS)
    counting = lab.script("cn", COUNT, HOME_ADDRESS)
    counting.event("counting")

    assert drain(lab, "yes") == "yes"
    node.event("home-agent-switch", source=HOME_AGENT, home_agents=[HOST])
    other.logged("event=binding-registered", f"home_address={HOME_ADDRESS}")
    first.logged("event=binding-removed", f"home_address={HOME_ADDRESS}", "reason=deregistered")
    first.logged("event=drained")
    other.logged("event=home-agent-gone", HOME_AGENT)
    assert lab.ping("cn", HOME_ADDRESS)
    counting.process.terminate()
    counted = counting.event("counted")
    assert counted["lost"] == [], counted

    heard = len(other.log.lines)
    assert drain(lab, "no") == "no"
    other.logged("event=home-agent-heard", HOME_AGENT, since=heard)
    assert "hoaflow_ha_drain" not in lab.run("ha", "nft list tables")
