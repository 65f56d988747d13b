"""The network lets through exactly the flows of the design: everything else is refused, in both directions."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pytest

from support.kustomize import Object, containers_of
from support.manifests import OVERLAYS, kind, pod_labels, workloads

WORLD: Final = "the world"
PRIVATE: Final = "private networks"
EDGE: Final = "namespaces of the edge"
MONITORING: Final = "namespaces of monitoring"
TRACES: Final = "namespaces of the trace collector"
NAMES: Final = "names"
OPS: Final = {(MONITORING, service, 9090) for service in ("gateway", "keys", "quota", "synth")}
BUS: Final = {(who, "nats", 4222) for who in ("gateway", "installer", "keys", "quota", "synth")}
STORES: Final = ("audit", "keys", "migrations", "quota", "synth")
ALWAYS: Final = OPS | BUS | {(EDGE, "gateway", 8080), ("synth", WORLD, 443)}
EXPECTED: Final = {
    "dev": ALWAYS | {(service, "postgres", 5432) for service in STORES},
    "production": ALWAYS
    | {(service, PRIVATE, 5432) for service in (*STORES, "backup")}
    | {("nats", "nats", 6222), ("backup", "nats", 4222)},
}
Flow = tuple[str, str, int]
NAMESPACES: Final = {
    ("odea.dev/edge", "allowed"): EDGE,
    ("odea.dev/monitoring", "allowed"): MONITORING,
    ("odea.dev/traces", "allowed"): TRACES,
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_flows_are_those_of_the_design(overlay: str) -> None:
    assert set(flows(overlay)) == EXPECTED[overlay.partition("-")[0]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_is_forgotten(overlay: str) -> None:
    """One policy selects every pod and allows nothing, so that what no other names is refused."""
    denied = [one["spec"] for one in kind(overlay, "NetworkPolicy") if one["spec"]["podSelector"] == {}]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in denied
    names = [spec for spec in denied if spec.get("egress")]
    assert [port["port"] for spec in names for rule in spec["egress"] for port in rule["ports"]] == [53, 53]


def flows(overlay: str) -> Iterator[Flow]:
    """Who may open which connection: what both its ends allow, and what crosses the cluster's border."""
    pods = {str(pod_labels(one)["app.kubernetes.io/component"]): one for one in workloads(overlay)}
    out, into = _allowed(overlay, pods, "Egress"), _allowed(overlay, pods, "Ingress")
    for source, target, port in out:
        if target in {WORLD, PRIVATE, TRACES} or (target in pods and (source, target, port) in into):
            yield source, target, port
    for source, target, port in into:
        if source not in pods:
            yield source, target, port


def _allowed(overlay: str, pods: Mapping[str, Object], direction: str) -> set[Flow]:
    found: set[Flow] = set()
    for policy in kind(overlay, "NetworkPolicy"):
        spec = policy["spec"]
        if direction not in spec["policyTypes"] or spec["podSelector"] == {}:
            continue
        for own in _selected(pods, spec["podSelector"]):
            for rule in spec.get(direction.lower(), ()):
                for peer in _peers(pods, rule["from" if direction == "Ingress" else "to"]):
                    for port in rule["ports"]:
                        assert port["protocol"] == "TCP"
                        served = own if direction == "Ingress" else peer
                        number = _number(pods.get(served), port["port"])
                        found.add((peer, own, number) if direction == "Ingress" else (own, peer, number))
    return found


def _selected(pods: Mapping[str, Object], selector: Mapping[str, Any]) -> Iterator[str]:
    for component, workload in pods.items():
        labels = pod_labels(workload)
        exact = selector.get("matchLabels", {})
        listed = selector.get("matchExpressions", ())
        assert all(one["operator"] == "In" for one in listed)
        if exact.items() <= labels.items() and all(labels.get(one["key"]) in one["values"] for one in listed):
            yield component


def _peers(pods: Mapping[str, Object], peers: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for peer in peers:
        if "podSelector" in peer:
            assert "namespaceSelector" not in peer
            yield from _selected(pods, peer["podSelector"])
        elif "ipBlock" in peer:
            block = peer["ipBlock"]
            whole = block["cidr"] in {"0.0.0.0/0", "::/0"}
            assert not whole or block["except"], "the world begins where the cluster's own networks end"
            yield WORLD if whole else PRIVATE
        else:
            (label,) = peer["namespaceSelector"]["matchLabels"].items()
            yield NAMESPACES[label]


def _number(workload: Object | None, port: int | str) -> int:
    if isinstance(port, int):
        return port
    assert workload is not None
    (number,) = {
        listed["containerPort"]
        for container in containers_of(workload)
        for listed in container.get("ports", ())
        if listed["name"] == port
    }
    return int(number)
