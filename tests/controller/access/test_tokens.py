# SPDX-License-Identifier: Apache-2.0
"""The tokens file: whose token it is, and files that are refused without a word of what is secret in them."""

import os
from pathlib import Path

import pytest

from controller.access.roles import Role
from controller.access.tokens import Tokens, WrongTokens
from hoaflow.addresses import parse_ipv6_address, parse_prefix
from tests.support.tokens import HOME_AGENT, TOKENS, write_tokens

SECRET = "very-secret-token-of-somebody"
READ = f'[reader]\ntoken = "{SECRET}"\nmay = "read"\n'
BRIDGE = f'[b]\ntoken = "{SECRET}"\nmay = "bridge"\n'


def test_each_token_is_known_and_bound_to_what_it_is_for(tmp_path: Path) -> None:
    tokens = Tokens(write_tokens(tmp_path))
    found = {name: tokens.find(token) for name, token in TOKENS.items()}
    assert {name: caller and caller.name for name, caller in found.items()} == {name: name for name in TOKENS}
    bridge, router = found["bridge"], found["other-router"]
    assert bridge
    assert (bridge.role, bridge.home_agent) == (Role.BRIDGE, parse_ipv6_address(HOME_AGENT))
    assert bridge.home_prefixes == (parse_prefix("2001:db8:99::/64"), parse_prefix("2001:db8:aa::/48"))
    assert router
    assert (router.role, router.router) == (Role.ROUTER, 2)
    for stranger in ("", TOKENS["admin"][:-1], TOKENS["admin"] + "0", TOKENS["admin"].upper(), "ü" * 40):
        assert tokens.find(stranger) is None


def test_a_token_is_kept_as_its_digest_only(tmp_path: Path) -> None:
    tokens = Tokens(write_tokens(tmp_path))
    held = repr(vars(tokens)) + repr(tokens.find(TOKENS["admin"]))
    assert not any(token in held for token in TOKENS.values())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "expected a token, found none"),
        (SECRET, "not TOML"),
        (f'[reader]\ntoken = "{SECRET}\n', "not TOML"),
        (READ.replace("[reader]", "[[reader]]"), "expected a table"),
        (f'token = "{SECRET}"', r"\[token\]: expected a table"),
        (READ.replace("reader", "local"), "other than local"),
        (READ.replace("reader", "anonymous"), "other than local"),
        (READ.replace("reader", '"a b"'), "expected a name"),
        (READ.replace("reader", '"a\\nb"'), "expected a name"),
        (READ.replace('"read"', '"everything"'), "expected one of read, bridge, router, member, admin"),
        (READ.replace('"read"', '"anyone"'), "expected one of read, bridge, router, member, admin"),
        (READ.replace('"read"', "[]"), "expected one of"),
        ('[reader]\nmay = "read"\n', "expected token or token_sha256"),
        (READ + "token_sha256 = '" + "0" * 64 + "'\n", "expected token or token_sha256"),
        (READ + "router = '1'\n", "got may, router, token"),
        (READ + "tokn = '1'\n", "got may, token, tokn"),
        (READ.replace(SECRET, "short"), "20 or more"),
        (READ.replace(SECRET, SECRET + " x"), "20 or more"),
        (READ.replace(f'"{SECRET}"', "12345678901234567890"), "20 or more"),
        ('[reader]\ntoken_sha256 = "abc"\nmay = "read"\n', "64 hexadecimal"),
        (READ + READ.replace("[reader]", "[again]"), r"\[again\] and \[reader\] have the same token"),
        (BRIDGE, "home_agent, home_prefixes, may"),
        (BRIDGE + 'home_agent = "x"\nhome_prefixes = ["2001:db8::/64"]\n', "home_agent: expected an IPv6 or"),
        (BRIDGE + 'home_agent = 7\nhome_prefixes = ["2001:db8::/64"]\n', "home_agent: expected an IPv6 or"),
        (BRIDGE + 'home_agent = "2001:db8::1"\nhome_prefixes = []\n', "home_prefixes: expected a list"),
        (BRIDGE + 'home_agent = "2001:db8::1"\nhome_prefixes = "2001:db8::/64"\n', "home_prefixes: expected a list"),
        (BRIDGE + 'home_agent = "2001:db8::1"\nhome_prefixes = ["2001:db8::1"]\n', r"home_prefixes\[0\]: expected a"),
        (BRIDGE + 'home_agent = "2001:db8::1"\nhome_prefixes = ["2001:db8::1/64"]\n', "bits set beyond"),
        (READ.replace('"read"', '"router"') + "router = 1\n", "in quotes"),
        (READ.replace('"read"', '"router"') + 'router = "0x1"\n', "hexadecimal"),
    ],
)
def test_a_wrong_file_is_refused_without_showing_a_token(tmp_path: Path, text: str, named: str) -> None:
    path = write_tokens(tmp_path, text)
    with pytest.raises(WrongTokens, match=named) as refused:
        Tokens(path)
    assert str(path) in str(refused.value)
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(refused.value.__context__)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(WrongTokens, match="chmod 600"):
        Tokens(write_tokens(tmp_path, mode=mode))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongTokens, match="nowhere: No such file"):
        Tokens(tmp_path / "nowhere")


def test_reloading_takes_over_what_is_right_and_keeps_what_was(tmp_path: Path) -> None:
    path = write_tokens(tmp_path)
    tokens = Tokens(path)
    admin = tokens.find(TOKENS["admin"])
    assert admin
    path.write_text("oh no")
    with pytest.raises(WrongTokens):
        tokens.reload()
    assert tokens.find(TOKENS["admin"]) is admin
    path.write_text(READ)
    tokens.reload()
    assert tokens.find(TOKENS["admin"]) is None
    assert not tokens.holds(admin)
    reader = tokens.find(SECRET)
    assert reader
    path.write_text(READ + READ.replace("[reader]", "[another]").replace(SECRET, "other-" + SECRET))
    tokens.reload()
    assert tokens.holds(reader)  # others come and go
    path.write_text(READ.replace(SECRET, "other-" + SECRET))
    tokens.reload()
    assert not tokens.holds(reader)  # the same name, another token
    path.write_text(READ)
    tokens.reload()
    reader = tokens.find(SECRET)
    assert reader
    # The same name with more to do is another one.
    path.write_text(READ.replace('"read"', '"admin"'))
    tokens.reload()
    assert not tokens.holds(reader)
    os.unlink(path)
    with pytest.raises(WrongTokens):
        tokens.reload()
    assert tokens.find(SECRET)
