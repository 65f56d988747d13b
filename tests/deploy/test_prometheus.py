"""Prometheus scrapes the running overlay with the shipped configuration and rules. Needs it, Docker and `just images`.

Run by `just prometheus-test`.
"""

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator
from time import monotonic, sleep
from typing import Any, Final

import pytest
import yaml

from deploy.engine import Engine, docker
from odea_local.ports import find_free
from support.lock import ROOT, SERVICES

SHIPPED: Final = ROOT / "deploy/observability"


class Prometheus:
    """A server on loopback, asked over its API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/{path}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
            return json.load(answer)["data"]

    def firing(self) -> set[tuple[str, str]]:
        alerts = [one for one in self.ask("alerts")["alerts"] if one["state"] == "firing"]
        return {(one["labels"]["alertname"], one["labels"].get("job", "")) for one in alerts}


@pytest.fixture(scope="module")
def prometheus(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Generator[Prometheus]:
    """The shipped files, but looking every second."""
    assert shutil.which("prometheus"), "prometheus is missing"
    folder, port = tmp_path_factory.mktemp("prometheus"), find_free()
    shutil.copy(SHIPPED / "rules.yml", folder)
    config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    targets = [
        {"targets": [f"{one.address}:{one.port('ops')}"], "labels": {"job": f"odea-{name}"}}
        for name in SERVICES
        for one in engine.pods[f"odea-{name}"]
    ]
    (folder / "targets.json").write_text(json.dumps(targets))
    arguments = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *arguments], stdout=log, stderr=log)
        try:
            yield Prometheus(port)
        finally:
            process.terminate()
            process.wait(30)


def until(holds: Callable[[], bool], within_s: float) -> None:
    deadline = monotonic() + within_s
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        assert monotonic() < deadline, "it does not come to that"
        sleep(0.5)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("keys")
def test_it_sees_everything_and_tells_when_quota_is_killed(engine: Engine, prometheus: Prometheus) -> None:
    def all_up() -> bool:
        targets = prometheus.ask("targets")["activeTargets"]
        return len(targets) == len(SERVICES) and {one["health"] for one in targets} == {"up"}

    def all_evaluated() -> bool:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        return len(rules) > 20 and {rule["health"] for rule in rules} == {"ok"}

    until(all_up, 60)
    until(all_evaluated, 60)
    assert prometheus.firing() == set()
    names = set(prometheus.ask("label/__name__/values"))
    assert {"odea_quota_open_holds", "odea_outbox_waiting", "odea_database_connections_max"} <= names
    (quota,) = engine.pods["odea-quota"]
    docker("kill", quota.container)
    until(lambda: ("OdeaServiceDown", "odea-quota") in prometheus.firing(), 120)
    assert {job for _, job in prometheus.firing()} == {"odea-quota"}
    assert all_evaluated(), "no rule has an error"
