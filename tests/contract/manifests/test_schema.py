"""Every overlay is what Kubernetes takes, strictly, and what its `restricted` level of pod security lets in."""

from typing import Any, Final

import kubernetes_validate
import pytest
from kubernetes_validate.utils import all_versions, major_minor

from support.kustomize import Object, containers_of
from support.manifests import OVERLAYS, kind, name, objects, pod, workloads

OLDEST: Final = (1, 31)
VERSIONS: Final = sorted(
    {major_minor(version) for version in all_versions() if tuple(map(int, version.split(".")[:2])) >= OLDEST}
)
FOREIGN: Final = {"gateway.networking.k8s.io/v1", "monitoring.coreos.com/v1"}
"""Kinds that others define; `just cluster-test` shows them to an API server that knows them."""
SAFE_VOLUMES: Final = {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected", "downwardAPI"}
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def test_there_is_something_to_check() -> None:
    assert {"dev", "production", "production-ingress"} <= set(OVERLAYS)
    assert VERSIONS[0] == "1.31"
    assert "1.34" in VERSIONS


@every_overlay
@pytest.mark.parametrize("version", VERSIONS)
def test_it_fits_the_schema_strictly(overlay: str, version: str) -> None:
    checked = 0
    for one in objects(overlay):
        if one["apiVersion"] not in FOREIGN:
            kubernetes_validate.validate(one, version, strict=True)
            checked += 1
    assert checked > 30


def test_a_misspelt_field_is_noticed() -> None:
    wrong: Object = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x"}, "automountToken": False}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@every_overlay
def test_names_are_unique_and_everything_is_in_the_namespace(overlay: str) -> None:
    names = [(one["kind"], name(one)) for one in objects(overlay)]
    assert len(names) == len(set(names))
    spaces = {one["metadata"].get("namespace") for one in objects(overlay) if one["kind"] != "Namespace"}
    assert spaces == {"odea"}


@every_overlay
def test_the_namespace_enforces_restricted(overlay: str) -> None:
    (namespace,) = kind(overlay, "Namespace")
    labels = namespace["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


@every_overlay
def test_every_pod_is_restricted(overlay: str) -> None:
    """The level's own list: https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    found = [fault for one in workloads(overlay) for fault in violations(pod(one), name(one))]
    assert found == []


def violations(spec: Object, who: str) -> list[str]:
    faults = [f"{who}: {field}" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    for volume in spec.get("volumes", ()):
        faults += [f"{who}: volume {kind}" for kind in set(volume) - {"name"} - SAFE_VOLUMES]
    around: dict[str, Any] = spec.get("securityContext", {})
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        own = around | container.get("securityContext", {})
        held = {
            "runAsNonRoot": own.get("runAsNonRoot") is True,
            "runAsUser": own.get("runAsUser") != 0,
            "seccomp": own.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "escalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities": own.get("capabilities", {}).get("drop") == ["ALL"]
            and set(own.get("capabilities", {}).get("add", ())) <= {"NET_BIND_SERVICE"},
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", ())),
            "sysctls": not around.get("sysctls"),
            "procMount": own.get("procMount", "Default") == "Default",
        }
        faults += [f"{who}/{container['name']}: {rule}" for rule, holds in held.items() if not holds]
    return faults


def test_the_policy_check_sees_what_it_should() -> None:
    bare: Object = {"containers": [{"name": "x"}], "volumes": [{"name": "h", "hostPath": {"path": "/"}}]}
    rules = {fault.rpartition(" ")[2] for fault in violations(bare, "pod")}
    assert rules == {"runAsNonRoot", "seccomp", "escalation", "capabilities", "hostPath"}


@every_overlay
def test_beyond_restricted(overlay: str) -> None:
    """A file system that nobody can write to, no token, a limit of memory, and a numeric user in every pod."""
    for one in workloads(overlay):
        spec = pod(one)
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsUser"] > 0
        for container in containers_of(one):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
            assert ":" in container["image"], "a tag, and never the latest by default"
            assert not container["image"].endswith(":latest")


@every_overlay
def test_every_workload_has_an_account_of_its_own(overlay: str) -> None:
    accounts = {name(one) for one in kind(overlay, "ServiceAccount")}
    assert all(one["automountServiceAccountToken"] is False for one in kind(overlay, "ServiceAccount"))
    used = {pod(one)["serviceAccountName"] for one in workloads(overlay)}
    assert used == accounts
