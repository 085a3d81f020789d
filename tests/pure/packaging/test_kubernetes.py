# SPDX-License-Identifier: MIT
"""The manifests for Kubernetes: valid, with few rights, and in agreement with each other."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tracer import __version__

FOLDER = Path(__file__).parents[3] / "packaging/kubernetes"
VERSIONS = ("1.30", "1.34")  # the first with appArmorProfile, and a recent one


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = (one for one in documents("daemonset.yaml") if one["kind"] == kind)
    return found


def pod() -> dict[str, Any]:
    return dict(of_kind("DaemonSet")["spec"]["template"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", documents("daemonset.yaml"), ids=lambda one: one["kind"])
def test_a_manifest_is_valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_container_has_the_least_rights() -> None:
    (container,) = pod()["spec"]["containers"]
    rights = container["securityContext"]
    added = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"]
    assert rights["capabilities"] == {"drop": ["ALL"], "add": added}
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["readOnlyRootFilesystem"] is True
    assert "privileged" not in rights
    assert not pod()["spec"].get("hostNetwork", False)
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])


def test_the_unit_and_the_container_have_the_same_capabilities() -> None:
    unit = (FOLDER.parent / "systemd/lunatik-socket.service").read_text()
    (line,) = (line for line in unit.splitlines() if line.startswith("AmbientCapabilities="))
    in_unit = [name.removeprefix("CAP_") for name in line.partition("=")[2].split()]
    (container,) = pod()["spec"]["containers"]
    assert in_unit == container["securityContext"]["capabilities"]["add"]


def test_the_image_has_the_version_of_the_program() -> None:
    (container,) = pod()["spec"]["containers"]
    assert container["image"].endswith(f":{__version__}")


def test_the_service_selects_the_pods_and_names_their_port() -> None:
    labels = pod()["metadata"]["labels"]
    service = of_kind("Service")["spec"]
    assert service["selector"] == labels == of_kind("DaemonSet")["spec"]["selector"]["matchLabels"]
    (container,) = pod()["spec"]["containers"]
    assert service["ports"][0]["targetPort"] == container["ports"][0]["name"]


@pytest.mark.parametrize(
    ("name", "endpoints", "target"),
    [
        ("servicemonitor.yaml", "endpoints", of_kind("Service")),
        ("podmonitor.yaml", "podMetricsEndpoints", pod()),
    ],
)
def test_a_monitor_selects_its_target(name: str, endpoints: str, target: dict[str, Any]) -> None:
    (monitor,) = documents(name)
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["namespace"] == of_kind("DaemonSet")["metadata"]["namespace"]
    assert monitor["spec"]["selector"]["matchLabels"] == target["metadata"]["labels"]
    (endpoint,) = monitor["spec"][endpoints]
    ports = target["spec"].get("ports") or target["spec"]["containers"][0]["ports"]
    assert endpoint["port"] in {port["name"] for port in ports}


def test_the_configuration_listens_on_the_port_of_the_container() -> None:
    text = of_kind("ConfigMap")["data"]["config.toml"]
    (container,) = pod()["spec"]["containers"]
    assert f'metrics = "*:{container["ports"][0]["containerPort"]}"' in text
