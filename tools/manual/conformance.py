# SPDX-License-Identifier: Apache-2.0
"""Generate docs/conformance.md from conformance.toml: what RFCs require, and which test shows that it is met."""

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).with_suffix(".toml")
MET, IN_PART, UNMET = "yes", "in part", "no"

HEAD = """\
<!-- Made by `make pages` from tools/manual/conformance.toml. -->
# Conformance

What RFC 6275 requires of a home agent and of a mobile node in its sections 5, 6, 8.4, 9, 10 and 11, RFC 3963 of home
agents and mobile routers, RFC 5142 of both, and RFC 5555 of home agents with IPv4 home addresses, and which test
shows that `hoaflow-ha` and the emulated mobile node of the topologies do it. The groups are those of the IPv6 Ready
test plans (TAHI). Sections are those of RFC 6275, unless another RFC's number stands in front. What is not met is
said, with the reason:
`hoaflow-ha` is the home agent for tests, demonstrations and small networks; UMIP has what it lacks.

{summary}
"""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement: its section and level in the RFC's words, the tests that show that it is met, what is not."""

    section: str
    level: str
    text: str
    tests: tuple[str, ...]
    unmet: str

    @property
    def met(self) -> str:
        """Return MET, IN_PART or UNMET."""
        if not self.unmet:
            return MET
        return IN_PART if self.tests else UNMET


@dataclass(frozen=True, slots=True)
class Group:
    """Requirements of one kind, of a home agent or a mobile node."""

    title: str
    of: str
    requirements: tuple[Requirement, ...]


def groups(path: Path = DATA) -> list[Group]:
    """Read the data. Raises ValueError for a requirement with neither a test nor a reason why it is not met."""
    found = []
    for group in tomllib.loads(path.read_text())["group"]:
        requirements = tuple(
            Requirement(
                each["section"], each["level"], each["text"], tuple(each.get("tests", ())), each.get("unmet", "")
            )
            for each in group["requirement"]
        )
        for requirement in requirements:
            if not requirement.tests and not requirement.unmet:
                raise ValueError(f"{requirement.text!r} has no test: name one, or say in `unmet` why it is not met")
        found.append(Group(group["title"], group["of"], requirements))
    return found


def page() -> str:
    """Return the page, with a table for each group."""
    found = groups()
    counts = Counter((group.of, each.met) for group in found for each in group.requirements)
    summary = "\n".join(
        [
            "| | met | in part | not met |",
            "| --- | --- | --- | --- |",
            *(
                f"| {of} | {counts[of, MET]} | {counts[of, IN_PART]} | {counts[of, UNMET]} |"
                for of in ("home agent", "mobile node")
            ),
        ]
    )
    parts = [HEAD.format(summary=summary)]
    for group in found:
        parts += [f"## {group.title} ({group.of})\n", "| section | level | requirement | met | tests |"]
        parts.append("| --- | --- | --- | --- | --- |")
        parts += [_row(each) for each in group.requirements]
        parts.append("")
    return "\n".join(parts)


def _row(requirement: Requirement) -> str:
    tests = "<br>".join(f"`{test}`" for test in requirement.tests)
    met = f"{requirement.met}. {requirement.unmet}" if requirement.unmet else requirement.met
    return f"| {requirement.section} | {requirement.level} | {requirement.text} | {met} | {tests} |"
