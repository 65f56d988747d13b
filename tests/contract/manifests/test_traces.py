"""The component `traces`, put onto an overlay as a team would: one more flow, and everybody told where to."""

from typing import Final

import kubernetes_validate
import pytest
import yaml

from contract.manifests.test_flows import EXPECTED, TRACES, flows
from odea_runtime.settings import PREFIX, Settings
from support.lock import SERVICES
from support.manifests import K8S, kind, objects, pod, workloads

PORT: Final = 4318


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("traced")
    parts = {"resources": [str(K8S / "overlays/production")], "components": [str(K8S / "components/traces")]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(parts))
    return str(folder)


def test_the_services_may_reach_the_collector_and_nothing_more(overlay: str) -> None:
    assert set(flows(overlay)) == EXPECTED["production"] | {(service, TRACES, PORT) for service in SERVICES}


def test_every_service_is_told_where_it_is(overlay: str) -> None:
    assert "otlp_endpoint" in Settings.model_fields
    told: dict[str, str] = {}
    for workload in workloads(overlay):
        for container in pod(workload)["containers"]:
            given = {entry["name"]: entry.get("value") for entry in container.get("env", ())}
            if endpoint := given.get(f"{PREFIX}OTLP_ENDPOINT"):
                told[container["name"]] = endpoint
    assert told == dict.fromkeys(SERVICES, f"http://collector.observability:{PORT}")


def test_the_api_server_would_take_it(overlay: str) -> None:
    changed = [*kind(overlay, "Deployment"), *kind(overlay, "NetworkPolicy")]
    assert len(objects(overlay)) == len(objects("production")) + 1
    for one in changed:
        kubernetes_validate.validate(one, "1.34", strict=True)
