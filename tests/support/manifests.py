"""The manifests of `deploy/k8s`, rendered once, and what tests ask about them."""

import base64
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from support.kustomize import Object, containers_of, pod_of, render
from support.lock import ROOT, SERVICES

K8S: Final = ROOT / "deploy/k8s"
OVERLAYS: Final = tuple(sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml")))
SERVICE_LABEL: Final = "app.kubernetes.io/component"


@cache
def objects(overlay: str) -> tuple[Object, ...]:
    """What the overlay renders to."""
    return tuple(render(K8S / "overlays" / overlay))


def kind(overlay: str, *kinds: str) -> list[Object]:
    """The objects of these kinds."""
    return [one for one in objects(overlay) if one["kind"] in kinds]


def workloads(overlay: str) -> list[Object]:
    """Whatever makes pods."""
    return [one for one in objects(overlay) if pod_of(one)]


def name(one: Object) -> str:
    """Of an object."""
    return str(one["metadata"]["name"])


def pod(one: Object) -> Object:
    """The pod's spec of a workload."""
    found = pod_of(one)
    assert found
    return found


def pod_labels(one: Object) -> Mapping[str, str]:
    """The labels that the pods of a workload have."""
    spec = one["spec"].get("jobTemplate", one)["spec"]
    return dict(spec["template"]["metadata"]["labels"])


def own_containers(overlay: str) -> Iterator[tuple[str, Object, Object]]:
    """The containers that run one of our images: whose it is, the workload, the container."""
    for workload in workloads(overlay):
        for container in containers_of(workload):
            image = str(container["image"]).rpartition(":")[0]
            repository = image.rpartition("/")[2].removeprefix("odea-")
            if repository in SERVICES:
                yield repository, workload, container


def secrets(overlay: str) -> Mapping[str, Mapping[str, str]]:
    """The Secrets that the overlay brings itself, in the clear."""
    found: dict[str, dict[str, str]] = {}
    for one in kind(overlay, "Secret"):
        data = {key: base64.b64decode(text).decode() for key, text in one.get("data", {}).items()}
        found[name(one)] = data | one.get("stringData", {})
    return found


def environ(container: Object, known: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The container's environment, with the Secrets filled in."""
    filled: dict[str, str] = {}
    for entry in container.get("env", ()):
        source: Any = entry.get("valueFrom", {})
        reference = source.get("secretKeyRef")
        if reference:
            filled[entry["name"]] = known[reference["name"]][reference["key"]]
        elif "value" in entry:
            filled[entry["name"]] = str(entry["value"])
    return filled
