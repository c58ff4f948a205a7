# SPDX-License-Identifier: Apache-2.0
"""Dockerfile and docker-compose.yml, as far as no engine is needed; tests/containers runs them."""

import re
import tomllib

import yaml

from tests.support.checkout import CHECKOUT


def test_the_images_version_is_the_projects() -> None:
    """In its label, and in the tags that the manifests ask for."""
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    assert re.findall(r"\bVERSION=(\S+)", (CHECKOUT / "Dockerfile").read_text()) == [version]
    for path in (CHECKOUT / "deploy" / "kubernetes").rglob("kustomization.yaml"):
        for image in yaml.safe_load(path.read_text()).get("images", ()):
            assert image["newTag"] == version or image["name"] != "hoaflow", path


def test_every_service_that_stays_says_whether_it_is_healthy() -> None:
    """But for one's own home agent, of which the bridge tells, and the command line, which waits for its user."""
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"secrets", "cli", "umip"}
