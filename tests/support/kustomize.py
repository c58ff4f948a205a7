# SPDX-License-Identifier: Apache-2.0
"""Build a kustomization: by `kubectl kustomize` if there is a kubectl, else as much of it as deploy/ uses."""

from __future__ import annotations

import base64
import copy
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from topologies.waiting import patient

Object = dict[str, Any]

KNOWN = {
    *("apiVersion", "kind", "namespace", "nameSuffix", "labels", "resources", "configMapGenerator"),
    *("secretGenerator", "images", "patches"),
}
# Lists of objects that a strategic merge takes apart by this field; all others are replaced as a whole.
MERGED_BY = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "topologySpreadConstraints": "topologyKey",
}
GENERATED = {"configMapGenerator": ("ConfigMap", "data"), "secretGenerator": ("Secret", "data")}
CLUSTER_WIDE = {"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"}


class KustomizeError(Exception):
    """The kustomization is wrong, or uses what only the real kustomize knows."""


def by_kubectl(directory: Path) -> list[Object]:
    """Return all objects of a kustomization, by the real kustomize. Raises subprocess.CalledProcessError."""
    command = ["kubectl", "kustomize", str(directory)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=patient(60))
    return [found for found in yaml.safe_load_all(result.stdout) if found]


def by_python(directory: Path) -> list[Object]:
    """Return all objects of a kustomization, as far as it is of the kind that is known here. Raises KustomizeError."""
    objects = _build(directory)
    _rename_references(objects)
    return objects


BUILDERS = {"python": by_python} | ({"kubectl": by_kubectl} if shutil.which("kubectl") else {})


def _build(directory: Path) -> list[Object]:
    wanted = yaml.safe_load((directory / "kustomization.yaml").read_text())
    if unknown := wanted.keys() - KNOWN:
        raise KustomizeError(f"{directory}: {sorted(unknown)} need the real kustomize (kubectl)")
    objects: list[Object] = []
    for name in wanted.get("resources", ()):
        path = directory / name
        objects += _build(path) if path.is_dir() else [o for o in yaml.safe_load_all(path.read_text()) if o]
    for field, (kind, data) in GENERATED.items():
        for generator in wanted.get(field, ()):
            _generate(objects, directory, kind, data, generator)
    for patch in wanted.get("patches", ()):
        for change in yaml.safe_load_all((directory / patch["path"]).read_text()):
            for target in _targets(objects, change, patch.get("target")):
                if change.get("$patch") == "delete":
                    objects.remove(target)
                else:
                    own_name = change["metadata"] | {"name": target["metadata"]["name"]}
                    target.update(_merge(target, change | {"metadata": own_name}))
    for found in objects:
        if found["kind"] not in CLUSTER_WIDE and "namespace" in wanted:
            found["metadata"]["namespace"] = wanted["namespace"]
        for labels in wanted.get("labels", ()):
            found["metadata"].setdefault("labels", {}).update(labels["pairs"])
        for image in wanted.get("images", ()):
            for container in _containers(found):
                if container["image"].partition(":")[0] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    _add_suffix(objects, wanted.get("nameSuffix", ""))
    return objects


def _targets(objects: list[Object], change: Object, target: Object | None) -> list[Object]:
    """Return the objects that a patch is for: those that `target` selects, or else the one that has its name."""
    if target is None:
        return [_find(objects, change["kind"], change["metadata"]["name"])]
    label, _, value = target.get("labelSelector", "").partition("=")
    found = [
        each
        for each in objects
        if each["kind"] == target["kind"]
        and target.get("name") in (None, each["metadata"]["name"])
        and (not label or each["metadata"].get("labels", {}).get(label) == value)
    ]
    if not found:
        raise KustomizeError(f"{target} selects nothing to patch")
    return found


def _add_suffix(objects: list[Object], suffix: str) -> None:
    """Rename objects, and what scales them."""
    renamed = {(found["kind"], found["metadata"]["name"]) for found in objects}
    for found in objects:
        found["metadata"]["name"] += suffix
        scaled = found.get("spec", {}).get("scaleTargetRef")
        if scaled is not None and (scaled["kind"], scaled["name"]) in renamed:
            scaled["name"] += suffix


def _generate(objects: list[Object], directory: Path, kind: str, field: str, generator: Object) -> None:
    data: dict[str, str] = {}
    for literal in generator.get("literals", ()):
        key, _, value = literal.partition("=")
        data[key] = value
    for name in generator.get("files", ()):
        data[Path(name).name] = (directory / name).read_text()
    if kind == "Secret":
        data = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    made: Object = {"apiVersion": "v1", "kind": kind, "metadata": {"name": generator["name"]}, field: data}
    if kind == "Secret":
        made["type"] = "Opaque"
    if not generator.get("options", {}).get("disableNameSuffixHash"):
        content = hashlib.sha256(repr(sorted(data.items())).encode()).hexdigest()
        made["metadata"]["annotations"] = {"hash": content[:10]}
    if generator.get("behavior") == "replace":
        objects.remove(_find(objects, kind, generator["name"]))
    elif any(o["kind"] == kind and o["metadata"]["name"] == generator["name"] for o in objects):
        raise KustomizeError(f"{directory}: {kind} {generator['name']} is there already: say `behavior`")
    objects.append(made)


def _rename_references(objects: list[Object]) -> None:
    """Give generated objects a hash of their content in their names, so that pods restart when it changes."""
    names = {}
    for found in objects:
        if content := found["metadata"].get("annotations", {}).get("hash"):
            del found["metadata"]["annotations"]
            old = found["metadata"]["name"]
            names[found["kind"], old] = found["metadata"]["name"] = f"{old}-{content}"

    def rename(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                rename(item)
        elif isinstance(value, dict):
            for key, kind, field in (
                ("configMap", "ConfigMap", "name"),
                ("configMapRef", "ConfigMap", "name"),
                ("secret", "Secret", "secretName"),
            ):
                reference = value.get(key)
                if isinstance(reference, dict) and (kind, reference.get(field)) in names:
                    reference[field] = names[kind, reference[field]]
            for item in value.values():
                rename(item)

    rename(objects)


def _find(objects: list[Object], kind: str, name: str) -> Object:
    for found in objects:
        if (found["kind"], found["metadata"]["name"]) == (kind, name):
            return found
    raise KustomizeError(f"no {kind} {name} to patch or replace")


def _merge(into: Any, change: Any) -> Any:
    """Return a strategic merge patch, as far as MERGED_BY knows the lists; null removes."""
    if not isinstance(into, dict) or not isinstance(change, dict):
        return copy.deepcopy(change)
    result = dict(into)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif key in MERGED_BY and isinstance(value, list) and isinstance(into.get(key), list):
            result[key] = _merge_list(into[key], value, MERGED_BY[key])
        else:
            result[key] = _merge(into.get(key), value)
    return result


def _merge_list(into: list[Object], changes: list[Object], by: str) -> list[Object]:
    merged = {item[by]: item for item in into}
    for change in changes:
        if change.get("$patch") == "delete":
            del merged[change[by]]
        else:
            merged[change[by]] = _merge(merged.get(change[by]), change)
    return list(merged.values())


def _containers(found: Object) -> list[Object]:
    pod = found.get("spec", {}).get("template", {}).get("spec", {}) if isinstance(found.get("spec"), dict) else {}
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]
