"""The dev overlay, running in containers."""

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from deploy.edge import Edge
from deploy.engine import Engine, needs
from support.lock import SERVICES

STARTED: Final = ("StatefulSet/odea-postgres", "StatefulSet/odea-nats")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Generator[Engine]:
    """All workloads of the dev overlay, in the order in which they can become ready."""
    needs()
    one = Engine("dev", tmp_path_factory.mktemp("dev"), f"odea-{os.getpid()}")
    # Pods have users of their own, who must get at the folders that are mounted.
    for folder in (one.folder, *one.folder.parents[:2]):
        folder.chmod(0o755)
    one.open()
    try:
        for workload in STARTED:
            one.start(workload)
        for job in ("odea-bus-apply", "odea-keys-migrate", "odea-quota-migrate", "odea-synth-migrate"):
            one.run_job(job)
        for service in SERVICES:
            one.start(f"Deployment/odea-{service}")
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def url(engine: Engine) -> Generator[str]:
    """Where the gateways are reached, whichever are in at the time."""
    edge = Edge(lambda: [(one.address, one.port("http")) for one in engine.pods["odea-gateway"]])
    yield edge.open()
    edge.close()


@pytest.fixture(scope="module")
def keys(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tenant's key and an administrator's, made over the bus."""
    folder = tmp_path_factory.mktemp("keys")
    environ = {**os.environ, **engine.operator_environ()}
    subprocess.run([sys.executable, "-m", "odea_local.demo", str(folder)], check=True, env=environ, timeout=90)
    return folder
