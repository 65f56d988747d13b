"""What tests render is what Kustomize renders, object by object. Needs kubectl; run by `just manifests-test`."""

import subprocess

import pytest
import yaml

from support.kustomize import by_name
from support.manifests import K8S, OVERLAYS, objects


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_renderer_is_kustomize(overlay: str) -> None:
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(K8S / "overlays" / overlay)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    real = by_name(yaml.safe_load_all(rendered.stdout))
    ours = by_name(objects(overlay))
    assert set(ours) == set(real)
    for name, one in real.items():
        assert ours[name] == one, name
