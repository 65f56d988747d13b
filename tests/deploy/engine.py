"""Runs rendered workloads as Docker containers, confined as the manifests say.

What Docker lacks is done by hand: Secrets and ConfigMaps become folders, a Service becomes a name on the network, the
kubelet's probes and the order of a rolling replacement are those of the manifests.
"""

import itertools
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from support.kustomize import Object, containers_of
from support.manifests import environ, kind, name, objects, pod, secrets

READY_WITHIN_S: Final = 120.0
_UNITS: Final = {"Mi": 2**20, "Gi": 2**30}


def docker(*arguments: str, check: bool = True, timeout_s: float = 120) -> str:
    """Run the docker command; its output."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, timeout=timeout_s)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stderr}"
    return done.stdout.strip()


@dataclass
class Pod:
    """A running container that stands for a pod with one."""

    workload: Object
    container: str
    address: str

    @property
    def spec(self) -> Object:
        """Of its main container."""
        return dict(pod(self.workload)["containers"][0])

    def port(self, port: str) -> int:
        """The number of a named port."""
        return next(one["containerPort"] for one in self.spec["ports"] if one["name"] == port)

    def is_ready(self) -> bool:
        """What its readiness probe says."""
        probe = self.spec["readinessProbe"]
        if "exec" in probe:
            command = ["docker", "exec", self.container, *probe["exec"]["command"]]
        else:
            url = f"http://{self.address}:{self.port(probe['httpGet']['port'])}{probe['httpGet']['path']}"
            command = ["curl", "--silent", "--fail", "--max-time", "3", "--output", "/dev/null", url]
        return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0

    def logs(self) -> str:
        """All that it wrote."""
        done = subprocess.run(
            ["docker", "logs", self.container], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.stdout


@dataclass
class Engine:
    """One overlay's workloads on a network of their own."""

    overlay: str
    folder: Path
    network: str
    given: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """Secrets and ConfigMaps that the overlay only refers to."""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    """Beginnings of images' names, and what they are called here."""
    pods: dict[str, list[Pod]] = field(default_factory=dict[str, list[Pod]])
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    def open(self) -> None:
        """Make the network."""
        docker("network", "create", "--internal", self.network)

    def close(self) -> None:
        """Take everything away, volumes included."""
        left = docker("ps", "--all", "--quiet", "--filter", f"network={self.network}").split()
        if left:
            docker("rm", "--force", "--volumes", *left)
        docker("network", "rm", self.network, check=False)

    def operator_environ(self) -> dict[str, str]:
        """What somebody needs who administers over the bus, as with `kubectl port-forward`."""
        (bus,) = self.pods["odea-nats"]
        seed = secrets(self.overlay)["odea-operator"]["ODEA_NATS_SEED"]
        return {"ODEA_NATS_URL": f"nats://{bus.address}:4222", "ODEA_NATS_SEED": seed}

    def one_off(
        self,
        workload: Object,
        *arguments: str,
        program: Sequence[str] = (),
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.CompletedProcess[str]:
        """Run another command in a workload's image, as confined and with its environment."""
        (container,) = pod(workload)["containers"]
        more = [{"name": variable, "value": text} for variable, text in environ.items()]
        changed = container | {"args": list(arguments), "env": [*container.get("env", ()), *more]}
        if program:
            changed["command"] = list(program)
        return self._run(workload, changed, detach=False)

    def workload(self, kind_and_name: str) -> Object:
        """As in `Deployment/odea-keys`; a version at the end of the name may be left out."""
        wanted_kind, _, wanted = kind_and_name.partition("/")
        (found,) = [one for one in kind(self.overlay, wanted_kind) if name(one).startswith(wanted)]
        return found

    def run_job(self, job: str) -> None:
        """Run a Job's container to its end; it may fail as often as the Job lets it."""
        workload = self.workload(f"Job/{job}")
        (container,) = pod(workload)["containers"]
        said: list[str] = []
        for _ in range(workload["spec"]["backoffLimit"]):
            made = self._run(workload, container, detach=False)
            if made.returncode == 0:
                return
            said.append(made.stderr + made.stdout)
            time.sleep(1)
        raise AssertionError(f"{job} failed: {said[-1]}")

    def start(self, kind_and_name: str) -> Pod:
        """Start one more pod: first what runs before it, then itself; returns when its readiness probe says so."""
        (one,) = self.start_together(kind_and_name, 1)
        return one

    def start_together(self, kind_and_name: str, replicas: int) -> list[Pod]:
        """Start several at once, as they need one another to become ready."""
        made = [self._launch(kind_and_name, ordinal) for ordinal in range(replicas)]
        deadline = time.monotonic() + READY_WITHIN_S
        for one in made:
            while not one.is_ready():
                assert time.monotonic() < deadline, f"{kind_and_name} does not become ready:\n{one.logs()[-3000:]}"
                time.sleep(0.5)
            self.pods.setdefault(name(one.workload), []).append(one)
        return made

    def _launch(self, kind_and_name: str, ordinal: int) -> Pod:
        workload = self.workload(kind_and_name)
        for container in pod(workload).get("initContainers", ()):
            before = self._run(workload, container, detach=False)
            assert before.returncode == 0, before.stderr
        (container,) = pod(workload)["containers"]
        made = self._run(workload, container, detach=True, ordinal=ordinal)
        assert made.returncode == 0, made.stderr
        return Pod(workload, made.stdout.strip(), self._address(made.stdout.strip()))

    def end(self, one: Pod) -> None:
        """End a pod as the kubelet does: preStop, SIGTERM, and SIGKILL after its grace, which is a fault here."""
        self.pods[name(one.workload)].remove(one)
        time.sleep(float(one.spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)))
        grace_s = int(pod(one.workload)["terminationGracePeriodSeconds"])
        docker("stop", f"--time={grace_s}", one.container, timeout_s=grace_s + 30)
        status = docker("inspect", "--format={{.State.ExitCode}}", one.container)
        assert status == "0", f"{name(one.workload)} ended with {status}:\n{one.logs()[-3000:]}"
        docker("rm", one.container)

    def _run(
        self, workload: Object, container: Object, *, detach: bool, ordinal: int = 0
    ) -> subprocess.CompletedProcess[str]:
        spec = pod(workload)
        around, own = spec["securityContext"], container["securityContext"]
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        number = next(self._count)
        arguments = [
            f"--name={self.network}-{name(workload)}-{number}",
            f"--hostname={name(workload)}-{ordinal}",
            f"--network={self.network}",
            *(f"--network-alias={service}" for service in self._services(workload)),
            f"--network-alias={name(workload)}-{ordinal}.{workload['spec'].get('serviceName', 'none')}",
            f"--user={around['runAsUser']}:{around['runAsGroup']}",
            "--read-only",
            "--security-opt=no-new-privileges",
            *(f"--cap-drop={capability}" for capability in own["capabilities"]["drop"]),
            f"--memory={_bytes(container['resources']['limits']['memory'])}",
            f"--memory-swap={_bytes(container['resources']['limits']['memory'])}",
            f"--cpu-shares={int(container['resources']['requests']['cpu'].removesuffix('m')) * 1024 // 1000}",
            *self._environment(container, f"{name(workload)}-{ordinal}"),
            *self._mounts(workload, container),
        ]
        program = list(container.get("command", ()))
        if program:
            arguments.append(f"--entrypoint={program[0]}")
        image = str(container["image"])
        for elsewhere, here in self.tags.items():
            image = image.replace(elsewhere, here)
        command = [image, *program[1:], *container.get("args", ())]
        how = "--detach" if detach else "--rm"
        return subprocess.run(
            ["docker", "run", how, *arguments, *command], check=False, capture_output=True, text=True, timeout=180
        )

    def _services(self, workload: Object) -> list[str]:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        return [name(one) for one in kind(self.overlay, "Service") if one["spec"]["selector"].items() <= labels.items()]

    def _environment(self, container: Object, pod_name: str) -> list[str]:
        given = environ(container, self._secrets())
        for entry in container.get("env", ()):
            if "fieldRef" in entry.get("valueFrom", {}):
                assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
                given[entry["name"]] = pod_name
        return [f"--env={variable}={text}" for variable, text in given.items()]

    def _secrets(self) -> dict[str, Mapping[str, str]]:
        return {**secrets(self.overlay), **self.given}

    def _mounts(self, workload: Object, container: Object) -> list[str]:
        found: list[str] = []
        owner = pod(workload)["securityContext"].get("fsGroup")
        volumes = {volume["name"]: volume for volume in pod(workload).get("volumes", ())}
        for mount in container.get("volumeMounts", ()):
            volume, target = volumes.get(mount["name"]), mount["mountPath"]
            if volume is None or "emptyDir" in volume:
                found.append(f"--tmpfs={target}:uid={owner},gid={owner},mode=0770,exec")
                continue
            source = self._files(volume)
            inside = source / mount["subPath"] if "subPath" in mount else source
            found.append(f"--volume={inside}:{target}:ro")
        return found

    def _files(self, volume: Object) -> Path:
        """A ConfigMap's or Secret's content as a folder."""
        source: Object = volume.get("configMap") or volume["secret"]
        wanted = source.get("name") or source["secretName"]
        made = {name(one): one["data"] for one in objects(self.overlay) if one["kind"] == "ConfigMap"}
        data: Mapping[str, str] = {**made, **self._secrets()}[wanted]
        listed = {item["key"]: item["path"] for item in source.get("items", ())} or {key: key for key in data}
        folder = self.folder / f"{wanted}-{'-'.join(sorted(listed.values()))}"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            for key, file in listed.items():
                (folder / file).write_text(data[key])
                (folder / file).chmod(source.get("defaultMode", 0o644))
        return folder

    def _address(self, container: str) -> str:
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", f"--format={networks}", container)


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def needs() -> None:
    """Fail early, with a word about what is missing."""
    assert shutil.which("docker"), "docker is missing"
    for one in containers_of_overlay("dev"):
        docker("image", "inspect", "--format={{.Id}}", str(one["image"]))


def containers_of_overlay(overlay: str) -> list[Object]:
    """Every container that the overlay would run."""
    return [container for one in objects(overlay) for container in containers_of(one)]
