"""What the manifests say of the code is what the code says: verbs, settings, ports, probes, times, versions."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click
import pytest

from odea_gateway.settings import GatewaySettings
from odea_keys.settings import KeysSettings
from odea_local.cli import cli
from odea_quota.settings import QuotaSettings
from odea_runtime import busadmin
from odea_runtime import service as runtime_service
from odea_runtime.busadmin.__main__ import _parser as bus_parser  # pyright: ignore[reportPrivateUsage]
from odea_runtime.busadmin.nkeys import new_seed
from odea_runtime.health import OpsServer
from odea_runtime.settings import PREFIX, Address, Settings, load
from odea_synth.settings import SynthSettings
from support.devbus import users_conf
from support.kustomize import Object, containers_of
from support.lock import SERVICES, version
from support.manifests import (
    K8S,
    OVERLAYS,
    environ,
    kind,
    name,
    own_containers,
    pod,
    pod_labels,
    secrets,
    workloads,
)

MODELS: Final[Mapping[str, type[Settings]]] = {
    "gateway": GatewaySettings,
    "keys": KeysSettings,
    "quota": QuotaSettings,
    "synth": SynthSettings,
}
DATABASE: Final = {"keys", "quota", "synth"}
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture(scope="module")
def verbs() -> Mapping[str, set[str]]:
    """The commands of every service, as its entry point hands them to the runtime."""
    found: dict[str, set[str]] = {}

    def record(service: str, _model: type[Settings], commands: dict[str, Any]) -> None:
        found[service] = set(commands)

    with pytest.MonkeyPatch.context() as patch:
        for service in SERVICES:
            module = import_module(f"odea_{service}.__main__")
            assert module.main is runtime_service.main
            patch.setattr(module, "main", record)
            module.run()
    return found


BUS_PROGRAM: Final = ["/app/bin/python", "-m", busadmin.__name__]


def _model(service: str, container: Object) -> type[Settings]:
    """Whose settings the container reads."""
    return Settings if "command" in container else MODELS[service]


@every_overlay
def test_every_service_is_there_with_commands_that_it_has(overlay: str, verbs: Mapping[str, set[str]]) -> None:
    used: dict[str, set[str]] = {}
    for service, _, container in own_containers(overlay):
        if "command" in container:
            assert container["command"] == BUS_PROGRAM
            assert bus_parser("x").parse_args(container["args"]).command == "apply"
            continue
        used.setdefault(service, set()).update(container["args"])
    assert set(used) == set(SERVICES)
    for service, arguments in used.items():
        assert arguments <= verbs[service]
        assert arguments >= ({"serve", "migrate", "await-schema"} if service in DATABASE else {"serve"})


@every_overlay
def test_every_tag_name_and_label_carries_the_version(overlay: str) -> None:
    for service, workload, container in own_containers(overlay):
        tag = str(container["image"]).rpartition(":")[2]
        variants = {version(), f"{version()}-piper"} if service == "synth" else {version()}
        assert tag in variants
        assert workload["metadata"]["labels"]["app.kubernetes.io/version"] == version()
        assert pod_labels(workload)["app.kubernetes.io/version"] == version()
        if workload["kind"] == "Job":
            assert name(workload).endswith(f"-{version().replace('.', '-')}")


def test_in_development_every_process_starts_with_what_it_is_given() -> None:
    """The settings themselves read the environment, the Secrets filled in."""
    seen: set[str] = set()
    for service, _, container in own_containers("dev"):
        load(_model(service, container), environ(container, secrets("dev")))
        seen.add(service)
    assert seen == set(SERVICES)


@every_overlay
def test_every_variable_is_a_setting_and_none_that_is_required_lacks(overlay: str) -> None:
    for service, workload, container in own_containers(overlay):
        fields = _model(service, container).model_fields
        known = {f"{PREFIX}{field.upper()}" for field in fields}
        files = {f"{variable}_FILE" for variable in known}
        given = {entry["name"] for entry in container["env"]}
        assert given <= known | files, f"{name(workload)} sets what nobody reads"
        required = {f"{PREFIX}{field.upper()}" for field, info in fields.items() if info.is_required()}
        assert required <= given | {variable.removesuffix("_FILE") for variable in given}, name(workload)


@every_overlay
def test_secrets_come_by_reference_and_each_service_sees_its_own(overlay: str) -> None:
    for service, workload, container in own_containers(overlay):
        speaks = service == "synth" and container["args"] == ["serve"]
        upstreams = [{"secretRef": {"name": "odea-synth-upstreams", "optional": True}}]
        assert container.get("envFrom") == (upstreams if speaks else None)
        model = _model(service, container)
        fields, owner = model.model_fields, "installer" if model is Settings else service
        for entry in container["env"]:
            if entry["name"] == "ODEA_NATS_URL":
                assert "@" not in entry["value"], "the seed logs in, not the address"
                continue
            field = fields.get(str(entry["name"]).removeprefix(PREFIX).lower())
            secret = field is not None and "SecretStr" in str(field.annotation)
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            assert secret == (reference is not None), f"{name(workload)}: {entry['name']}"
            if reference:
                assert reference == {"name": f"odea-{owner}", "key": entry["name"]}


def test_the_secrets_of_development_hold_what_is_asked_for_and_nothing_else() -> None:
    asked: dict[str, set[str]] = {}
    for workload in workloads("dev"):
        for container in containers_of(workload):
            for entry in container.get("env", ()):
                if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
                    asked.setdefault(reference["name"], set()).add(reference["key"])
        for volume in pod(workload).get("volumes", ()):
            if "secret" in volume:
                asked.setdefault(volume["secret"]["secretName"], set())
    for who in ("odea-operator", "odea-backup"):  # for people at their own machines
        asked[who] = {"ODEA_NATS_SEED"}
    held = {who: set(data) for who, data in secrets("dev").items()}
    assert set(asked) == set(held)
    assert all(held[who] == keys for who, keys in asked.items() if keys)


def test_the_logins_of_development_are_those_of_its_seeds() -> None:
    """If the rights on the bus have changed: `just dev-users` writes the file anew."""
    assert (K8S / "overlays/dev/users.conf").read_text() == users_conf()


@every_overlay
def test_where_the_bus_has_tls_everybody_speaks_it(overlay: str) -> None:
    (config,) = [one["data"]["nats.conf"] for one in kind(overlay, "ConfigMap") if "nats.conf" in one["data"]]
    tls = "handshake_first: true" in config
    assert tls == (overlay != "dev")
    for service, workload, container in own_containers(overlay):
        if container["args"] == ["serve"] or "command" in container:
            given = {entry["name"]: entry.get("value") for entry in container["env"]}
            assert given["ODEA_NATS_URL"] == f"{'tls' if tls else 'nats'}://odea-nats:4222"
            if tls:
                mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
                (volume,) = [one for one in pod(workload)["volumes"] if one["name"] == "bus-authority"]
                assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}], service
                assert given["ODEA_NATS_TLS_CA_FILE"] == f"{mounts['bus-authority']}/ca.crt"


@every_overlay
def test_production_brings_no_secret(overlay: str) -> None:
    assert bool(kind(overlay, "Secret")) == (overlay == "dev")


def _given(container: Object, service: str) -> Settings:
    """The settings that do not come from Secrets, over their defaults."""
    values = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    fields = MODELS[service].model_fields
    good = {"ODEA_NATS_SEED": new_seed(), "ODEA_DATABASE_URL": "postgresql://x", "ODEA_KEYS_PEPPERS": f"a:{'ab' * 32}"}
    needed = {key: text for key, text in good.items() if key.removeprefix(PREFIX).lower() in fields}
    # Files that are mounted there are not here.
    values.pop("ODEA_NATS_TLS_CA_FILE", None)
    return load(MODELS[service], needed | values)


def _serving(overlay: str) -> list[tuple[str, Object, Object]]:
    return [found for found in own_containers(overlay) if found[2]["args"] == ["serve"]]


def test_the_backup_is_the_command_of_this_version() -> None:
    (job,) = [one for one in kind("production", "CronJob") if name(one) == "odea-backup"]
    (container,) = pod(job)["containers"]
    assert str(container["image"]).endswith(f"/local:{version()}")
    verb = cli.commands[container["args"][0]]
    arguments = verb.make_context("backup", list(container["args"][1:])).params
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(arguments["output"]) in mounts
    variables = {str(option.envvar) for option in verb.params if isinstance(option, click.Option) and option.envvar}
    given = {entry["name"]: entry for entry in container["env"]}
    bus = {"ODEA_NATS_URL", "ODEA_NATS_SEED", "ODEA_NATS_TLS_CA_FILE"}
    assert set(given) == variables | bus
    for variable in (*variables, "ODEA_NATS_SEED"):
        assert given[variable]["valueFrom"]["secretKeyRef"] == {"name": "odea-backup", "key": variable}
    assert given["ODEA_NATS_URL"]["value"] == "tls://odea-nats:4222"
    assert given["ODEA_NATS_TLS_CA_FILE"]["value"].rpartition("/")[0] in mounts


@every_overlay
def test_ports_are_where_the_settings_listen(overlay: str) -> None:
    for service, _, container in _serving(overlay):
        settings = _given(container, service)
        expected = {"ops": settings.ops_address.port}
        assert settings.ops_address.host == "0.0.0.0"
        if isinstance(settings, GatewaySettings):
            expected["http"] = settings.gateway_address.port
            assert settings.gateway_address.host == "0.0.0.0"
        assert {port["name"]: port["containerPort"] for port in container["ports"]} == expected


@every_overlay
async def test_probes_ask_what_is_answered(overlay: str) -> None:
    """Of the real server: what starts and lives is not judged by what lies outside the process, what is ready is."""

    async def fault() -> str | None:
        return "the bus is away"

    async with OpsServer(Address("127.0.0.1", 0), {"bus": fault}) as ops:
        for _, _, container in _serving(overlay):
            answers = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
            assert {get["port"] for get in answers.values()} == {"ops"}
            statuses = {
                probe: await asyncio.to_thread(_status, f"http://127.0.0.1:{ops.port}{get['path']}")
                for probe, get in answers.items()
            }
            assert statuses == {"startup": 200, "liveness": 200, "readiness": 503}


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


@every_overlay
def test_a_pod_may_take_as_long_to_end_as_its_settings_let_it(overlay: str) -> None:
    drains: dict[str, float] = {}
    for service, workload, container in _serving(overlay):
        settings = _given(container, service)
        needed = settings.drain_s + float(getattr(settings, "unready_s", 0))
        needed += float(container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))
        assert pod(workload)["terminationGracePeriodSeconds"] >= needed + 5, name(workload)
        drains[service] = settings.drain_s
    assert drains["synth"] >= drains["gateway"], "a stream ends when either of its ends does"


@every_overlay
def test_selectors_find_what_they_are_meant_for(overlay: str) -> None:
    pods = {name(one): pod_labels(one) for one in workloads(overlay)}
    for one in kind(overlay, "Service", "PodDisruptionBudget"):
        selector = one["spec"]["selector"]
        wanted = selector.get("matchLabels", selector) if one["kind"] != "Service" else selector
        found = [who for who, labels in pods.items() if wanted.items() <= labels.items()]
        assert found == [name(one).removesuffix("-servers")]
    for one in workloads(overlay):
        if one["kind"] in {"Deployment", "StatefulSet"}:
            assert one["spec"]["selector"]["matchLabels"].items() <= pods[name(one)].items()
    for one in kind(overlay, "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        (scaled,) = [work for work in kind(overlay, target["kind"]) if name(work) == target["name"]]
        assert "replicas" not in scaled["spec"], "two would say how many there are"


@every_overlay
def test_a_rollout_never_has_fewer_than_before(overlay: str) -> None:
    for one in kind(overlay, "Deployment"):
        assert one["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_production_survives_a_node() -> None:
    autoscalers = {name(one): one["spec"]["minReplicas"] for one in kind("production", "HorizontalPodAutoscaler")}
    assert set(autoscalers) == {f"odea-{service}" for service in SERVICES}
    assert min(autoscalers.values()) >= 2
    budgets = {name(one) for one in kind("production", "PodDisruptionBudget")}
    assert budgets == {*autoscalers, "odea-nats"}
    assert all(pod(one)["affinity"]["podAntiAffinity"] for one in kind("production", "Deployment", "StatefulSet"))
    (nats,) = kind("production", "StatefulSet")
    assert nats["spec"]["replicas"] == 3
