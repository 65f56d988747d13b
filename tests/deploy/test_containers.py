"""The dev overlay's containers find one another and speak, confined as the manifests say.

Run by `just containers-test`, after `just images`.
"""

import json
from pathlib import Path
from typing import Final

import httpx
import pytest
from openai import OpenAI

from deploy.engine import Engine, docker
from support.lock import SERVICES

TEXT: Final = "Hello from a box without a shell."


def test_they_speak_and_charge_what_was_spoken(engine: Engine, url: str, keys: Path) -> None:
    key = (keys / "tenant.key").read_text().strip()
    client = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    audio = client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT, response_format="wav").read()
    assert audio.startswith(b"RIFF")
    assert len(audio) > 20_000
    usage = httpx.get(f"{url}/v1/usage", headers={"Authorization": f"Bearer {key}"}).json()
    assert usage["accounts"][0]["used"] == len(TEXT)
    assert usage["accounts"][0]["held"] == 0
    audit = engine.one_off(engine.workload("Deployment/odea-quota"), "audit")
    assert audit.returncode == 0, audit.stderr


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("service", SERVICES)
def test_each_is_as_confined_as_its_manifest_says(engine: Engine, service: str) -> None:
    (one,) = engine.pods[f"odea-{service}"]
    found = json.loads(docker("inspect", one.container))[0]
    host = found["HostConfig"]
    limit = one.spec["resources"]["limits"]["memory"]
    assert host["Memory"] == int(limit.removesuffix("Mi")) * 2**20
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["Privileged"] is False
    assert found["Config"]["User"] == "65532:65532"
    refused = docker("exec", one.container, "/app/bin/python", "-c", "open('/app/x', 'w')", check=False)
    assert refused == ""
    status = Path(f"/proc/{found['State']['Pid']}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Uid:\t65532\t65532" in status


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("service", SERVICES)
def test_each_stays_far_below_its_limit(engine: Engine, service: str) -> None:
    """After a first speech; the peak, as the kernel counts it."""
    (one,) = engine.pods[f"odea-{service}"]
    pid = docker("inspect", "--format={{.State.Pid}}", one.container)
    peak_kib = next(
        int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line
    )
    limit_kib = int(one.spec["resources"]["limits"]["memory"].removesuffix("Mi")) * 1024
    assert peak_kib < 0.75 * limit_kib, f"{peak_kib // 1024} MiB of {limit_kib // 1024} MiB"
