"""Renders the Kustomize folders of `deploy/k8s` without kubectl: the few features that they use, a fault for any other.

`just manifests-test` compares what comes out with the real Kustomize, object by object.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import yaml

Object: TypeAlias = dict[str, Any]

_FIELDS: Final = {
    "apiVersion", "components", "configMapGenerator", "images", "kind", "labels", "nameSuffix", "namespace", "patches",
    "resources",
}  # fmt: skip
_MERGE_KEYS: Final = {
    "containers": "name", "env": "name", "initContainers": "name", "volumeMounts": "mountPath", "volumes": "name",
    "topologySpreadConstraints": "topologyKey", "volumeDevices": "devicePath", "volumeClaimTemplates": None,
}  # fmt: skip
"""Lists that Kubernetes merges by a key; that of `ports` differs by kind, so patches leave ports alone."""
_SWAPPED: Final = str.maketrans("013ae", "ghkmt")


def render(folder: Path) -> list[Object]:
    """Every object of the folder that holds a `kustomization.yaml`.

    Raises:
        ValueError: it uses something that this renderer does not know.
    """
    return _accumulate(folder, [])


def _accumulate(folder: Path, given: list[Object]) -> list[Object]:
    """`given` for a component, nothing for anything else, plus what the folder adds, after its changes."""
    spec = cast("Object", yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8")))
    if strange := set(spec) - _FIELDS:
        raise ValueError(f"{folder}: the renderer does not know {', '.join(sorted(strange))}")
    objects = list(given)
    for name in spec.get("resources", ()):
        path = folder / name
        objects += _accumulate(path, []) if path.is_dir() else _load(path)
    renamed = dict(_generate(folder, spec, objects))
    for name in spec.get("components", ()):
        objects = _accumulate(folder / name, objects)
    for patch in spec.get("patches", ()):
        _patch(objects, folder, patch)
    for change in (_set_namespace, _add_suffix, _add_labels, _set_images):
        change(spec, objects)
    for one in objects:
        _rename_references(one, renamed)
    return objects


def _load(path: Path) -> list[Object]:
    documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    # Through JSON, so that what an anchor shared is no longer one and the same.
    return [json.loads(json.dumps(one)) for one in documents if one]


def _generate(folder: Path, spec: Object, objects: list[Object]) -> Iterable[tuple[str, str]]:
    """Add the generated ConfigMaps, named after their content, so that a change rolls out; which name became which."""
    for generator in spec.get("configMapGenerator", ()):
        if set(generator) != {"name", "files"}:
            raise ValueError(f"{folder}: ConfigMaps are made from files alone")
        data = {Path(file).name: (folder / file).read_text(encoding="utf-8") for file in generator["files"]}
        name = f"{generator['name']}-{_hash(data)}"
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
        yield generator["name"], name


def _hash(data: dict[str, str]) -> str:
    """Kustomize's own suffix: of what Go's JSON makes of the content."""
    content = {"kind": "ConfigMap", "name": "", "data": data}
    text = json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return hashlib.sha256(text.encode()).hexdigest()[:10].translate(_SWAPPED)


def _rename_references(one: Object, renamed: dict[str, str]) -> None:
    for volume in (pod_of(one) or {}).get("volumes", ()):
        config = volume.get("configMap", {})
        if config.get("name") in renamed:
            config["name"] = renamed[config["name"]]


def _patch(objects: list[Object], folder: Path, patch: Object) -> None:
    changes = _load(folder / patch["path"]) if "path" in patch else list(yaml.safe_load_all(patch["patch"]))
    if strange := set(patch) - {"path", "patch", "target"}:
        raise ValueError(f"{folder}: the renderer does not know {strange} of a patch")
    for change in changes:
        if not isinstance(change, dict):
            raise ValueError(f"{folder}: JSON patches are not used here")  # noqa: TRY004 - it is the file that is wrong
        target = patch.get("target") or {"kind": change["kind"], "name": change["metadata"]["name"]}
        found = [one for one in objects if one["kind"] == target["kind"] and _is_named(one, target)]
        if not found:
            raise ValueError(f"{folder}: a patch finds no {target}")
        for one in found:
            if "$patch" in change:
                objects.remove(one)
            else:
                name = one["metadata"]["name"]
                _merge(one, cast("Object", change))
                one["metadata"]["name"] = name


def _is_named(one: Object, target: Object) -> bool:
    return re.fullmatch(str(target.get("name", ".*")), str(one["metadata"]["name"])) is not None


def _merge(into: Object, change: Object) -> None:
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], cast("Object", value))
        elif isinstance(value, list) and isinstance(into.get(key), list) and _MERGE_KEYS.get(key):
            into[key] = _merge_lists(into[key], cast("list[Object]", value), str(_MERGE_KEYS[key]))
        else:
            into[key] = value


def _merge_lists(old: list[Object], new: list[Object], key: str) -> list[Object]:
    """By key; what the patch names comes first, as Kustomize has it."""
    known = {one[key]: one for one in old}
    for item in new:
        if item[key] in known:
            _merge(known[item[key]], item)
    named = {item[key] for item in new}
    return [known.get(item[key], item) for item in new] + [one for one in old if one[key] not in named]


def _set_namespace(spec: Object, objects: list[Object]) -> None:
    for one in objects if "namespace" in spec else ():
        field = "name" if one["kind"] == "Namespace" else "namespace"
        one["metadata"][field] = spec["namespace"]


def _add_suffix(spec: Object, objects: list[Object]) -> None:
    for one in objects:
        one["metadata"]["name"] += spec.get("nameSuffix", "")


def _add_labels(spec: Object, objects: list[Object]) -> None:
    for labels in spec.get("labels", ()):
        if set(labels) - {"pairs", "includeTemplates"}:
            raise ValueError("the renderer adds labels to objects and their templates, not to selectors")
        for one in objects:
            places = [one] + (_templates(one) if labels.get("includeTemplates") else [])
            for place in places:
                place.setdefault("metadata", {}).setdefault("labels", {}).update(labels["pairs"])


def _templates(one: Object) -> list[Object]:
    if one["kind"] == "CronJob":
        job = one["spec"]["jobTemplate"]
        return [job, job["spec"]["template"]]
    return [one["spec"]["template"]] if one["kind"] in {"Deployment", "StatefulSet", "Job"} else []


def pod_of(one: Object) -> Object | None:
    """The pod's spec of an object that makes pods."""
    templates = _templates(one)
    return cast("Object", templates[-1]["spec"]) if templates else None


def containers_of(one: Object) -> list[Object]:
    """All containers of an object, those that run before the others included."""
    pod = pod_of(one) or {}
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def _set_images(spec: Object, objects: list[Object]) -> None:
    for image in spec.get("images", ()):
        for one in objects:
            for container in containers_of(one):
                container["image"] = _image(str(container["image"]), image)


def _image(name: str, change: Object) -> str:
    base, tag = _split(name)
    if base != change["name"]:
        return name
    tag = change.get("newTag", tag)
    return change.get("newName", base) + (f":{tag}" if tag else "")


def _split(image: str) -> tuple[str, str]:
    base, colon, tag = image.rpartition(":")
    return (base, tag) if colon and "/" not in tag else (image, "")


def by_name(objects: Iterable[Object], key: Callable[[Object], str] | None = None) -> dict[str, Object]:
    """Objects by `Kind/name`."""
    return {key(one) if key else f"{one['kind']}/{one['metadata']['name']}": one for one in objects}
