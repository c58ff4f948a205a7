# SPDX-License-Identifier: Apache-2.0
"""A tokens file with one token for each role, and for a second home agent and a second router."""

import hashlib
from pathlib import Path

HOME_AGENT, HOME_PREFIX, DPID = "2001:db8:99::1", "2001:db8:99::/64", "0000000000000001"
OTHER_HOME_AGENT, OTHER_PREFIX, OTHER_DPID = "2001:db8:98::1", "2001:db8:98::/64", "0000000000000002"
NAMES = ("reader", "bridge", "other-bridge", "router", "other-router", "member", "admin")
TOKENS = {name: f"token-of-the-{name}".ljust(40, "0") for name in NAMES}

TABLES = f"""
[reader]
token = "{TOKENS["reader"]}"
may = "read"

[bridge]
token = "{TOKENS["bridge"]}"
may = "bridge"
home_agent = "{HOME_AGENT}"
home_prefixes = ["{HOME_PREFIX}", "2001:db8:aa::/48"]

[other-bridge]
token_sha256 = "{hashlib.sha256(TOKENS["other-bridge"].encode()).hexdigest()}"
may = "bridge"
home_agent = "{OTHER_HOME_AGENT}"
home_prefixes = ["{OTHER_PREFIX}"]

[router]
token = "{TOKENS["router"]}"
may = "router"
router = "{DPID}"

[other-router]
token = "{TOKENS["other-router"]}"
may = "router"
router = "2"

[member]
token = "{TOKENS["member"]}"
may = "member"

[admin]
token = "{TOKENS["admin"]}"
may = "admin"
"""


def write_tokens(directory: Path, text: str = TABLES, mode: int = 0o600) -> Path:
    """Return a tokens file in a directory."""
    path = directory / "tokens.toml"
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)
    return path


def write_token(directory: Path, name: str) -> Path:
    """Return a client's file with its token alone."""
    path = directory / f"{name}.token"
    path.touch(mode=0o600)
    path.write_text(TOKENS[name] + "\n")
    return path
