"""A real API server takes the overlays, finds nothing to change the second time, and gives our accounts no rights.

Needs kubectl, openssl and what `just cluster-tools` makes. Run by `just cluster-test`.
"""

import json
from collections.abc import Generator

import pytest
import yaml

from deploy.apiserver import TOOLS, Cluster, cluster
from support.kustomize import Object
from support.manifests import K8S, OVERLAYS, kind, name, objects, pod, pod_labels, workloads

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    """A server that knows the kinds that others define."""
    with cluster(tmp_path_factory.mktemp("cluster")) as server:
        server.must("apply", "--server-side", "-f", str(TOOLS / "crds"))
        for definition in sorted((TOOLS / "crds").glob("*.yaml")):
            plural, _, group = yaml.safe_load(definition.read_text())["metadata"]["name"].partition(".")
            server.must("wait", "--for=condition=Established", f"crd/{plural}.{group}", "--timeout=60s")
        yield server


@pytest.fixture
def applied(api: Cluster, overlay: str) -> Generator[str]:
    """The overlay in an empty namespace."""
    done = api.kubectl("apply", "--validate=strict", "-k", str(K8S / "overlays" / overlay))
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "the server has something to say"
    assert len(done.stdout.splitlines()) == len(objects(overlay))
    yield overlay
    # There is no controller that would empty the namespace, so each kind goes by itself and the namespace stays.
    for one in reversed(objects(overlay)):
        if one["kind"] != "Namespace":
            if one["kind"] == "PersistentVolumeClaim":
                lets_go = '{"metadata": {"finalizers": null}}'
                api.must("patch", "-n", "odea", f"pvc/{name(one)}", "--type=merge", f"--patch={lets_go}")
            api.must("delete", "--wait=false", "--cascade=background", "-n", "odea", f"{_type(one)}/{name(one)}")


def _type(one: Object) -> str:
    group, _, _ = str(one["apiVersion"]).rpartition("/")
    return f"{one['kind']}.{group}" if group else str(one["kind"])


@every_overlay
def test_once_applied_there_is_nothing_left_to_change(api: Cluster, applied: str) -> None:
    folder = str(K8S / "overlays" / applied)
    difference = api.kubectl("diff", "-k", folder)
    assert (difference.returncode, difference.stdout) == (0, ""), difference.stderr


@every_overlay
def test_pod_security_lets_every_pod_in(api: Cluster, applied: str) -> None:
    """The admission that enforces the level, asked with the pods that the controllers would make."""
    for one in workloads(applied):
        made: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name(one), "namespace": "odea", "labels": dict(pod_labels(one))},
            "spec": pod(one),
        }
        if one["kind"] == "StatefulSet":
            claims = [
                {"name": claim["metadata"]["name"], "emptyDir": {}} for claim in one["spec"]["volumeClaimTemplates"]
            ]
            made["spec"] = made["spec"] | {"volumes": made["spec"]["volumes"] + claims}
        api.must("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(made))
        careless = made | {"spec": made["spec"] | {"hostNetwork": True}}
        refused = api.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(careless))
        assert refused.returncode != 0
        assert "violates PodSecurity" in refused.stderr


@every_overlay
def test_our_accounts_may_do_nothing(api: Cluster, applied: str) -> None:
    for account in kind(applied, "ServiceAccount"):
        who = f"--as=system:serviceaccount:odea:{name(account)}"
        for verb, what in (
            ("get", "secrets"),
            ("list", "pods"),
            ("create", "pods/exec"),
            ("patch", "deployments.apps"),
        ):
            asked = api.kubectl("auth", "can-i", verb, what, who, "-n", "odea")
            assert (asked.stdout.strip(), asked.returncode) == ("no", 1)


def test_a_misspelt_field_is_refused(api: Cluster) -> None:
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dota": {}}
    refused = api.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(wrong))
    assert refused.returncode != 0
    assert "dota" in refused.stderr
