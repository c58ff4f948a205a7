# SPDX-License-Identifier: Apache-2.0
"""deploy/kubernetes/make-secrets: what is there stays, what is new is added, what is wrong is told."""

import re
import subprocess
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from controller.access.roles import Role
from controller.access.tokens import read_tokens
from tests.support.checkout import CHECKOUT
from tests.support.kubernetes import WITH_SECRETS, Deployment
from tests.support.kustomize import BUILDERS, Object

CONTROLLER_NAMES = ("controller.hoaflow.svc", "localhost")
CONTROLLER_ADDRESSES = ("127.0.0.1", "::1")


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def secret(overlay: Path, name: str) -> Object:
    (found,) = (
        o for o in BUILDERS["python"](overlay) if o["kind"] == "Secret" and o["metadata"]["name"].startswith(name)
    )
    data: Object = found["data"]
    return data


@pytest.mark.parametrize("name", WITH_SECRETS)
def test_secrets_are_their_owners_alone_and_let_in_whom_the_overlay_names(deployment: Deployment, name: str) -> None:
    assert deployment.make_secrets(name).returncode == 0
    made = deployment.overlay(name) / "secrets"
    for path in made.iterdir():
        assert path.stat().st_mode & 0o077 == 0 or path.suffix == ".crt", path
    tokens = {token.name: token for token in read_tokens(made / "tokens.toml").values()}
    assert tokens["operator"].role is Role.ADMIN
    assert tokens["prometheus"].role is Role.READ
    assert (made / ".gitignore").read_text() == "*\n"
    assert tokens["home-agent-0"].home_agent == IPv6Address("2001:db8:99::1").packed
    assert tokens["node-1"].router == 1


def test_what_is_there_stays_and_what_is_new_is_added(deployment: Deployment) -> None:
    overlay = deployment.overlay("production")
    assert deployment.make_secrets("production").returncode == 0
    before = contents(overlay / "secrets")
    again = deployment.make_secrets("production")
    assert again.returncode == 0
    assert "made" not in again.stderr
    assert contents(overlay / "secrets") == before

    (overlay / "secrets" / "home-agent-0.keys.toml").write_text('["2001:db8:99::100"]\nspi = 256\nkey = "00"\n')
    (overlay / "secrets" / "ca.key").unlink()  # kept elsewhere by now
    with (overlay / "routers").open("a") as routers:
        routers.write("node-3 0000000000000003")
    (overlay / "home-agent-3").write_text("HOME_AGENT=2001:db8:9c::1\nHOME_PREFIX=2001:db8:9c::/64\n")
    added = deployment.make_secrets("production")
    assert added.returncode == 0
    assert added.stderr.splitlines() == ["made a token for home-agent-3", "made a token for node-3"]
    after = contents(overlay / "secrets")
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {"tokens.toml", "kustomization.yaml", "home-agent-0.keys.toml", "ca.key"}
    assert b"2001:db8:99::100" in after["home-agent-0.keys.toml"]
    assert {"node-1.token", "node-2.token", "node-3.token"} <= secret(overlay, "router-tokens").keys()
    assert "home-agent-3.token" in secret(overlay, "bridge-tokens")
    assert "home-agent-3.keys.toml" in secret(overlay, "mobile-node-keys")
    names = {token.name for token in read_tokens(overlay / "secrets" / "tokens.toml").values()}
    assert names == {
        "operator",
        "prometheus",
        *(f"controller-{n}" for n in range(3)),
        *(f"home-agent-{n}" for n in range(4)),
        *(f"node-{n}" for n in (1, 2, 3)),
    }

    (overlay / "clients").write_text("second-operator admin\n")
    (overlay / "routers").write_text("# the others are gone\nnode-3 0000000000000003\n")
    assert deployment.make_secrets("production").returncode == 0
    names = {token.name for token in read_tokens(overlay / "secrets" / "tokens.toml").values()}
    assert not names & {"node-1", "node-2", "operator", "prometheus"}
    assert "second-operator" in names


def test_overlays_of_ones_own_lie_elsewhere(tmp_path: Path) -> None:
    """As docs/kubernetes.md has it: copies beside the checkout, whose base is the checkout's."""
    page = (CHECKOUT / "docs" / "kubernetes.md").read_text()
    commands = re.findall(r"^    ((?:cp -r|sed -i) .*?)(?: +# .*)?$", page, re.MULTILINE)
    deployment = Deployment(checkout := tmp_path / "hoaflow")
    subprocess.run(["sh", "-euc", "\n".join(commands)], cwd=checkout, check=True, timeout=120)
    own = {name: tmp_path / name for name in ("my-cluster", "my-controllers", "my-home-agents")}
    assert deployment.make_secrets(own["my-cluster"]).returncode == 0
    for build in BUILDERS.values():
        stateful = {
            name: {found["metadata"]["name"] for found in build(folder) if found["kind"] == "StatefulSet"}
            for name, folder in own.items()
        }
        assert stateful == {
            "my-cluster": {"home-agent"},
            "my-controllers": {"home-agent", "controller", "etcd"},
            "my-home-agents": {"home-agent", "home-agent-standby", "controller", "etcd"},
        }


def test_the_controllers_certificate_is_valid_where_it_is_reached(deployment: Deployment) -> None:
    assert deployment.make_secrets("production").returncode == 0
    secrets = deployment.overlay("production") / "secrets"
    verify = ["openssl", "verify", "-purpose", "sslserver", "-CAfile", str(secrets / "ca.crt")]
    certificate = str(secrets / "controller.crt")
    for name in CONTROLLER_NAMES:
        subprocess.run([*verify, "-verify_hostname", name, certificate], check=True, timeout=120)
    for address in CONTROLLER_ADDRESSES:
        subprocess.run([*verify, "-verify_ip", address, certificate], check=True, timeout=120)
    wrong = subprocess.run([*verify, "-verify_ip", "192.0.2.1", certificate], capture_output=True, timeout=120)
    assert wrong.returncode != 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected an overlay: production single-node, or a folder of your own"),
        (["staging"], "there is no overlay staging: expected production single-node"),
        (["production", "node-1=0000000000000001"], "expected an overlay: production single-node"),
    ],
)
def test_wrong_usage_is_told(deployment: Deployment, arguments: list[str], said: str) -> None:
    result = deployment.make_secrets(*arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert not list(deployment.folder.rglob("secrets"))


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("clients", "grafana", "expected a name and read or admin"),
        ("clients", "grafana bridge", "expected a name and read or admin"),
        ("clients", "node-1 read", "there twice: node-1"),
        ("clients", "local read", "nobody may be called local"),
        ("routers", "node-2", "expected a node's name and 16 hexadecimal digits"),
        ("routers", "node-2 2", "expected a node's name and 16 hexadecimal digits"),
        ("routers", "node-2 0000000000000002 0000000000000003", "expected a node's name and 16 hexadecimal digits"),
        ("routers", '"] 0000000000000002', "expected a node's name and 16 hexadecimal digits"),
        ("routers", "operator 0000000000000002", "there twice: operator"),
        ("routers", "controller 0000000000000002", "nobody may be called controller"),
        ("routers", "node-1 0000000000000002", "there twice: node-1"),
        ("routers", "node-2 0000000000000001", "there twice: 0000000000000001"),
    ],
)
def test_a_wrong_client_or_router_is_told(deployment: Deployment, file: str, line: str, said: str) -> None:
    with (deployment.overlay("single-node") / file).open("a") as named:
        named.write(f"{line}\n")
    result = deployment.make_secrets("single-node")
    assert result.returncode == 2
    assert said in result.stderr
    assert not list(deployment.folder.rglob("secrets"))
