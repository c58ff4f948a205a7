# SPDX-License-Identifier: Apache-2.0
"""deploy/kubernetes: every overlay builds, is what the API's schemas allow, and keeps to our own rules for it."""

import configparser
import json
import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import kubernetes_validate
import pytest

from controller.settings import OPTIONS
from tests.support.kubernetes import KUBERNETES, OVERLAYS, WITH_SECRETS, Deployment
from tests.support.kustomize import BUILDERS, Object

VERSIONS = ("1.30", "1.37")  # the oldest that docs/kubernetes.md promises, and the newest whose schemas are there
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet"}
CAPABILITIES = {
    "controller": set(),
    "etcd": set(),
    "home-agent": {"NET_ADMIN", "NET_RAW"},
    "bridge": {"NET_ADMIN"},
    "router": {"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "DAC_OVERRIDE"},
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """With secrets, made as the documentation says."""
    deployment = Deployment(tmp_path_factory.mktemp("checkout"))
    for overlay in WITH_SECRETS:
        assert deployment.make_secrets(overlay).returncode == 0
    return deployment


@pytest.fixture(
    scope="module", params=[(overlay, builder) for overlay in OVERLAYS for builder in BUILDERS], ids="-".join
)
def objects(request: pytest.FixtureRequest, deployment: Deployment) -> list[Object]:
    overlay, builder = request.param
    return BUILDERS[builder](deployment.overlay(overlay))


def find(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (each for each in find(objects, kind) if each["metadata"]["name"] == name)
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for found in objects:
        if found["kind"] in WORKLOADS:
            yield f"{found['kind']} {found['metadata']['name']}", found["spec"]["template"]["spec"]


def containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    for _, pod in pods(objects):
        for container in all_of(pod):
            yield pod, container


def all_of(pod: Object) -> list[Object]:
    """Its containers, side-cars first."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def test_the_overlays_are_those_documented() -> None:
    assert OVERLAYS == ["cluster", "production", "single-node", "standby"]


def test_every_object_is_what_the_api_takes(objects: list[Object]) -> None:
    assert len(objects) > 15
    for found in objects:
        for version in VERSIONS:
            kubernetes_validate.validate(found, version, strict=True)


def test_the_schemas_are_looked_at(objects: list[Object]) -> None:
    broken: Any = json.loads(json.dumps(find(objects, "DaemonSet")[0]))
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


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
    assert seen >= CAPABILITIES.keys() - {"etcd"}


def test_images_are_pinned_and_resources_and_probes_set(objects: list[Object]) -> None:
    for _, container in containers(objects):
        assert re.fullmatch(r"\S+:v?\d+\.\d+\.\d+", container["image"]), container["image"]
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
        for container in all_of(pod):
            own = {"journal", "data"} if name.startswith("StatefulSet") else set()
            assert {mount["name"] for mount in container["volumeMounts"]} <= mounted | own
            for source in container.get("envFrom", ()):
                assert ("ConfigMap", source["configMapRef"]["name"]) in held
    for budget in find(objects, "PodDisruptionBudget"):
        assert_selects(objects, budget["spec"]["selector"]["matchLabels"])
    for service in find(objects, "Service"):
        assert_selects(objects, service["spec"]["selector"])


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize(
    ("folder", "of"), [("networks", "single-node"), ("overlays/production/networks", "production")]
)
def test_what_multus_is_to_attach_is_there_apart_from_the_overlays(
    deployment: Deployment, folder: str, of: str, builder: str
) -> None:
    """A cluster without Multus does not know their kind, and `apply -k` of an overlay with them would fail."""
    networks = BUILDERS[builder](deployment.folder / folder)
    assert {network["kind"] for network in networks} == {"NetworkAttachmentDefinition"}
    assert {network["metadata"]["namespace"] for network in networks} == {"hoaflow"}
    for network in networks:
        assert json.loads(network["spec"]["config"])["plugins"]
    home_agent = named(BUILDERS[builder](deployment.overlay(of)), "StatefulSet", "home-agent")
    wanted = home_agent["spec"]["template"]["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"]
    assert {network["name"] for network in json.loads(wanted)} == {each["metadata"]["name"] for each in networks}


def assert_selects(objects: list[Object], labels: dict[str, str]) -> None:
    templates = [f["spec"]["template"]["metadata"]["labels"] for f in objects if f["kind"] in WORKLOADS]
    own = {"statefulset.kubernetes.io/pod-name"}  # Kubernetes labels each pod of a StatefulSet so
    wanted = {name: value for name, value in labels.items() if name not in own}
    assert any(wanted.items() <= template.items() for template in templates), labels


def test_nothing_reaches_a_pod_that_no_policy_allows(objects: list[Object]) -> None:
    policies = {found["metadata"]["name"]: found["spec"] for found in find(objects, "NetworkPolicy")}
    assert policies["nothing-by-default"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # The nodes' own addresses differ from cluster to cluster: overlays say them, each in one place.
    blocks = {name: cidrs(policy) for name, policy in policies.items()}
    assert [name for name, found in blocks.items() if found] == ["controller-from-nodes", "home-agent-to-name-servers"]
    assert "169.254.20.10/32" in blocks["home-agent-to-name-servers"]
    for block in (block for found in blocks.values() for block in found):
        assert ip_network(block).prefixlen >= 7, block
    # A readiness that leases decide on must not keep those away who renew them.
    for service in find(objects, "Service"):
        assert service["spec"].get("publishNotReadyAddresses") is True, service["metadata"]["name"]


def cidrs(policy: Object) -> list[str]:
    rules = [*policy.get("ingress", ()), *policy.get("egress", ())]
    peers = [peer for rule in rules for peer in (*rule.get("from", ()), *rule.get("to", ()))]
    return [peer["ipBlock"]["cidr"] for peer in peers if "ipBlock" in peer]


def test_a_pod_sees_its_own_secrets_only(objects: list[Object]) -> None:
    """Where a Secret holds those of several pods, each mounts its own file, and that file is there."""
    secrets = {found["metadata"]["name"]: found["data"] for found in find(objects, "Secret")}
    (routers,) = (s for s in secrets if s.startswith("router-tokens"))
    pods_of = {"bridge": "0", "home-agent": "0", "router": "node-1"}
    mounted = set()
    for pod, container in containers(objects):
        held = {v["name"]: secrets[v["secret"]["secretName"]] for v in pod["volumes"] if "secret" in v}
        variables = {variable["name"] for variable in container.get("env", ())}
        for mount in container["volumeMounts"]:
            if mount["name"] not in held or container["name"] in ("controller", "etcd"):
                continue
            file = mount.get("subPath")
            if file != "ca.crt":
                assert set(re.findall(r"\$\((\w+)\)", mount["subPathExpr"])) <= variables
                file = re.sub(r"\$\(\w+\)", pods_of[container["name"]], mount["subPathExpr"])
            assert file in held[mount["name"]], mount
            mounted.add(container["name"])
    assert mounted == pods_of.keys()
    # A further router's token restarts nobody.
    assert routers == "router-tokens"


def test_probes_are_cheap(objects: list[Object]) -> None:
    """What starts a process is asked rarely, once the part has started."""
    for _, container in containers(objects):
        ports = {port["name"] for port in container.get("ports", ())}
        for name in ("livenessProbe", "readinessProbe"):
            probe = container[name]
            if "exec" in probe:
                assert probe["periodSeconds"] >= 30, container["name"]
            else:
                assert probe["httpGet"]["port"] in ports, container["name"]


def test_every_home_agent_that_may_be_started_is_configured(objects: list[Object]) -> None:
    (settings,) = (c for c in find(objects, "ConfigMap") if c["metadata"]["name"].startswith("home-agents"))
    (tokens,) = (s for s in find(objects, "Secret") if s["metadata"]["name"].startswith("bridge-tokens"))
    autoscalers = find(objects, "HorizontalPodAutoscaler")
    home_agents = [each for each in find(objects, "StatefulSet") if each["metadata"]["name"].startswith("home-agent")]
    most = autoscalers[0]["spec"]["maxReplicas"] if autoscalers else home_agents[0]["spec"]["replicas"]
    scaled = {autoscaler["spec"]["scaleTargetRef"]["name"] for autoscaler in autoscalers}
    # Each has one who decides on the number.
    assert scaled == {each["metadata"]["name"] for each in home_agents if "replicas" not in each["spec"]}
    assert settings["data"].keys() == {f"home-agent-{n}" for n in range(most)}
    assert {f"home-agent-{n}.token" for n in range(most)} <= tokens["data"].keys()
    for autoscaler in autoscalers:
        # The mobile nodes of a home agent that is scaled away would lose it.
        assert autoscaler["spec"]["behavior"]["scaleDown"] == {"selectPolicy": "Disabled"}
    addresses = [re.search(r"HOME_AGENT=(\S+)", text) for text in settings["data"].values()]
    (router,) = (c for c in find(objects, "ConfigMap") if c["metadata"]["name"].startswith("router"))
    assert router["data"]["HOME_AGENTS"].split() == [found[1] for found in addresses if found]


def test_a_home_agents_bridge_outlives_it(objects: list[Object]) -> None:
    """A side-car ends after what it stands beside, and its lease outlasts a pod's replacement."""
    home_agent = named(objects, "StatefulSet", "home-agent")
    (bridge,) = home_agent["spec"]["template"]["spec"]["initContainers"]
    assert (bridge["name"], bridge["restartPolicy"]) == ("bridge", "Always")
    (settings,) = (c for c in find(objects, "ConfigMap") if c["metadata"]["name"].startswith("home-agents"))
    assert all("BRIDGE_OPTIONS='--lease 30'\n" in text for text in settings["data"].values())


def test_nodes_can_be_drained_without_the_controller(objects: list[Object]) -> None:
    """No bridge is ready then, and a budget would keep all home agents' pods where they are."""
    budget = named(objects, "PodDisruptionBudget", "home-agent")
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_production_places_every_part(deployment: Deployment) -> None:
    found = dict(pods(BUILDERS["python"](deployment.overlay("production"))))
    assert found["StatefulSet home-agent"]["nodeSelector"] == {"hoaflow/home-agent": "true"}
    assert found["DaemonSet router"]["nodeSelector"] == {"hoaflow/router": "true"}
    classes = {name: pod["priorityClassName"] for name, pod in found.items()}
    assert classes == {
        "Deployment controller": "system-cluster-critical",
        "StatefulSet home-agent": "system-cluster-critical",
        "DaemonSet router": "system-node-critical",
    }


def test_a_cluster_has_three_controllers_with_an_address_each(deployment: Deployment) -> None:
    objects = BUILDERS["python"](deployment.overlay("cluster"))
    assert not find(objects, "Deployment"), "the single controller is gone"
    controllers = named(objects, "StatefulSet", "controller")
    members = [f"controller-{number}" for number in range(controllers["spec"]["replicas"])]
    for member in members:  # for switches, which keep an address
        service = named(objects, "Service", member)["spec"]
        assert service["selector"]["statefulset.kubernetes.io/pod-name"] == member
        assert "clusterIP" not in service
    budgets = {each["metadata"]["name"]: each["spec"] for each in find(objects, "PodDisruptionBudget")}
    assert budgets["controller"]["maxUnavailable"] == budgets["etcd"]["maxUnavailable"] == 1
    # The next controller is replaced once the one before is ready, and every gate could have been renewed by it.
    assert controllers["spec"]["updateStrategy"] == {"type": "RollingUpdate"}
    assert controllers["spec"]["minReadySeconds"] > 10
    (secret,) = (s for s in find(objects, "Secret") if s["metadata"]["name"].startswith("controller-tokens"))
    assert {f"{member}.token" for member in members} <= secret["data"].keys()


def test_two_pods_of_an_address_are_apart_and_equally_many(deployment: Deployment) -> None:
    objects = BUILDERS["python"](deployment.overlay("standby"))
    pair = [named(objects, "StatefulSet", name)["spec"] for name in ("home-agent", "home-agent-standby")]
    # Kubernetes scales nothing by a selector that has another one's pods, too.
    first, second = (each["selector"]["matchLabels"]["hoaflow/pod"] for each in pair)
    assert first != second
    scaling = [each["spec"] | {"scaleTargetRef": None} for each in find(objects, "HorizontalPodAutoscaler")]
    assert scaling[0] == scaling[1]
    assert [metric["type"] for metric in scaling[0]["metrics"]] == ["External"]  # not of the pods of either
    for each in pair:
        template = each["template"]
        assert template["metadata"]["labels"].items() >= each["selector"]["matchLabels"].items()
        nodes, _ = template["spec"]["topologySpreadConstraints"]
        assert (nodes["topologyKey"], nodes["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "DoNotSchedule")
        # The index is the address's; the selector has the pods of both.
        assert nodes["matchLabelKeys"] == ["apps.kubernetes.io/pod-index"]
        assert nodes["labelSelector"]["matchLabels"].keys() == {"app.kubernetes.io/name"}
        assert "volumeClaimTemplates" not in each
        for container in all_of(template["spec"]):
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz?standby=ok"
            assert "CACHE" in {variable["name"] for variable in container["env"]}


def test_the_members_settings_exist(deployment: Deployment) -> None:
    """They are given by the environment, by which oslo.config names them OS_HOAFLOW__NAME."""
    objects = BUILDERS["python"](deployment.overlay("cluster"))
    (container,) = named(objects, "StatefulSet", "controller")["spec"]["template"]["spec"]["containers"]
    given = [each["name"].removeprefix("OS_HOAFLOW__").lower() for each in container["env"] if each["name"] != "POD"]
    assert "etcd" in given
    assert set(given) <= {option.dest for option in OPTIONS}


def test_the_controllers_settings_exist() -> None:
    from oslo_config import cfg

    from controller.settings import load

    for path in sorted(KUBERNETES.rglob("controller.conf")):
        assert configparser.ConfigParser().read(path)
        conf = cfg.ConfigOpts()
        conf(["--config-file", str(path)], default_config_files=[])
        load(conf)
