# SPDX-License-Identifier: Apache-2.0
"""deploy/kubernetes: every overlay builds, is what the API's schemas allow, and keeps to our own rules for it."""

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.support.kustomize import Object, build

CHECKOUT = Path(__file__).parents[1]
KUBERNETES = CHECKOUT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
NODES = ["node-1=0000000000000001", "node-2=0000000000000002"]
VERSION = "1.31"
CUSTOM = {"NetworkAttachmentDefinition"}  # of Multus; no schema of Kubernetes' own
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet"}
CAPABILITIES = {
    "controller": set(),
    "home-agent": {"NET_ADMIN", "NET_RAW"},
    "bridge": {"NET_ADMIN"},
    "router": {"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "DAC_OVERRIDE"},
}


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with secrets, made as the documentation says."""
    copy = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    for overlay in OVERLAYS:
        subprocess.run([copy / "make-secrets", overlay, *NODES], check=True, capture_output=True, timeout=60)
    return copy


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest, deploy: Path) -> list[Object]:
    return build(deploy / "overlays" / request.param)


def find(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for found in objects:
        if found["kind"] in WORKLOADS:
            yield f"{found['kind']} {found['metadata']['name']}", found["spec"]["template"]["spec"]


def containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    for _, pod in pods(objects):
        for container in pod["containers"]:
            yield pod, container


def test_the_overlays_are_those_documented() -> None:
    assert OVERLAYS == ["production", "single-node"]


def test_every_object_is_what_the_api_takes(objects: list[Object]) -> None:
    assert len(objects) > 15
    for found in objects:
        if found["kind"] not in CUSTOM:
            kubernetes_validate.validate(found, VERSION, strict=True)


def test_the_schemas_are_looked_at(objects: list[Object]) -> None:
    broken: Any = json.loads(json.dumps(find(objects, "DaemonSet")[0]))
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSION, strict=True)


def test_nobody_has_more_rights_than_needed(objects: list[Object]) -> None:
    seen = set()
    for pod, container in containers(objects):
        security = container["securityContext"]
        name = container["name"]
        seen.add(name)
        assert not security.get("privileged"), name
        assert security["capabilities"]["drop"] == ["ALL"], name
        assert set(security["capabilities"].get("add", ())) == CAPABILITIES[name]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not pod.get("hostPID")
        assert not pod.get("hostIPC")
        if name != "router":
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert not pod.get("hostNetwork"), name
            assert not any("hostPath" in volume for volume in pod["volumes"]), name
    assert seen == CAPABILITIES.keys()


def test_images_are_pinned_and_resources_and_probes_set(objects: list[Object]) -> None:
    for _, container in containers(objects):
        assert re.fullmatch(r"\S+:\d+\.\d+\.\d+", container["image"]), container["image"]
        for bound in ("requests", "limits"):
            assert container["resources"][bound].keys() == {"cpu", "memory"}
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), container["name"]


def test_what_a_pod_refers_to_is_there(objects: list[Object]) -> None:
    held = {(found["kind"], found["metadata"]["name"]): found for found in objects}
    for name, pod in pods(objects):
        assert ("ServiceAccount", pod["serviceAccountName"]) in held, name
        for volume in pod["volumes"]:
            for kind, reference in (
                ("ConfigMap", volume.get("configMap", {}).get("name")),
                ("Secret", volume.get("secret", {}).get("secretName")),
            ):
                assert reference is None or (kind, reference) in held, f"{name}: {reference}"
        mounted = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            own = {"journal"} if name.startswith("StatefulSet") else set()
            assert {mount["name"] for mount in container["volumeMounts"]} <= mounted | own
            for source in container.get("envFrom", ()):
                assert ("ConfigMap", source["configMapRef"]["name"]) in held
    for budget in find(objects, "PodDisruptionBudget"):
        assert_selects(objects, budget["spec"]["selector"]["matchLabels"])
    for service in find(objects, "Service"):
        assert_selects(objects, service["spec"]["selector"])
    networks = {found["metadata"]["name"] for found in find(objects, "NetworkAttachmentDefinition")}
    (home_agent,) = find(objects, "StatefulSet")
    wanted = home_agent["spec"]["template"]["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"]
    assert {network["name"] for network in json.loads(wanted)} <= networks
    for network in find(objects, "NetworkAttachmentDefinition"):
        assert json.loads(network["spec"]["config"])["plugins"]


def assert_selects(objects: list[Object], labels: dict[str, str]) -> None:
    templates = [f["spec"]["template"]["metadata"]["labels"] for f in objects if f["kind"] in WORKLOADS]
    assert any(labels.items() <= template.items() for template in templates), labels


def test_nothing_reaches_a_pod_that_no_policy_allows(objects: list[Object]) -> None:
    policies = {found["metadata"]["name"]: found["spec"] for found in find(objects, "NetworkPolicy")}
    assert policies["nothing-by-default"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # A readiness that leases decide on must not keep those away who renew them.
    (controller,) = (s for s in find(objects, "Service") if s["metadata"]["name"] == "controller")
    assert controller["spec"]["publishNotReadyAddresses"] is True


def test_every_home_agent_that_may_be_started_is_configured(objects: list[Object]) -> None:
    (settings,) = (c for c in find(objects, "ConfigMap") if c["metadata"]["name"].startswith("home-agents"))
    (tokens,) = (s for s in find(objects, "Secret") if s["metadata"]["name"].startswith("bridge-tokens"))
    autoscalers = find(objects, "HorizontalPodAutoscaler")
    (home_agent,) = find(objects, "StatefulSet")
    most = autoscalers[0]["spec"]["maxReplicas"] if autoscalers else home_agent["spec"]["replicas"]
    assert ("replicas" in home_agent["spec"]) is not bool(autoscalers)  # two cannot decide on the number
    assert settings["data"].keys() == {f"home-agent-{n}" for n in range(most)}
    assert {f"home-agent-{n}.token" for n in range(most)} <= tokens["data"].keys()
    for autoscaler in autoscalers:
        # The mobile nodes of a home agent that is scaled away would lose it.
        assert autoscaler["spec"]["behavior"]["scaleDown"] == {"selectPolicy": "Disabled"}
    addresses = [re.search(r"HOME_AGENT=(\S+)", text) for text in settings["data"].values()]
    (router,) = (c for c in find(objects, "ConfigMap") if c["metadata"]["name"].startswith("router"))
    assert router["data"]["HOME_AGENTS"].split() == [found[1] for found in addresses if found]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_secrets_made_are_those_named(deploy: Path, overlay: str) -> None:
    made = deploy / "overlays" / overlay / "secrets"
    tokens = tomllib.loads((made / "tokens.toml").read_text())
    assert tokens["operator"]["may"] == "admin"
    assert tokens["home-agent-0"]["home_agent"] == "2001:db8:99::1"
    assert tokens["node-2"]["router"] == "0000000000000002"
    assert all(path.stat().st_mode & 0o077 == 0 for path in made.iterdir())
    again = subprocess.run([deploy / "make-secrets", overlay], capture_output=True, text=True, timeout=60)
    assert again.returncode == 1
    assert "there are secrets already" in again.stderr


def test_the_controllers_settings_exist() -> None:
    from oslo_config import cfg

    from controller.settings import load

    for path in sorted(KUBERNETES.rglob("controller.conf")):
        assert configparser.ConfigParser().read(path)
        conf = cfg.ConfigOpts()
        conf(["--config-file", str(path)], default_config_files=[])
        load(conf)
