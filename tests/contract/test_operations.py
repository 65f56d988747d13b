"""The commands in `docs/operations` name what there is: files, overlays, objects, recipes and verbs."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from odea_local.cli import cli
from support.lock import ROOT
from support.manifests import name, objects

PAGES: Final = [*sorted((ROOT / "docs/operations").glob("*.md")), ROOT / "deploy/k8s/README.md"]
KINDS: Final = {
    "deployment": "Deployment", "statefulset": "StatefulSet", "service": "Service", "cronjob": "CronJob", "hpa":
    "HorizontalPodAutoscaler", "secret": "Secret",
}  # fmt: skip
RECIPES: Final = set(re.findall(r"^([a-z][a-z-]*)[ :*]", (ROOT / "justfile").read_text(), re.MULTILINE))
NAMES: Final = {(one["kind"], name(one)) for overlay in ("dev", "production") for one in objects(overlay)}


def commands() -> Iterator[tuple[str, str]]:
    """Every command in a block or in backquotes, continued lines joined."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"```(?:sh)?\n(.*?)```", text, re.DOTALL):
            yield from ((page.name, line.strip()) for line in block.splitlines() if line.strip())
        yield from ((page.name, span) for span in re.findall(r"`([^`\n]+)`", text))


FOUND: Final = sorted(set(commands()))


@pytest.mark.parametrize(("page", "command"), [one for one in FOUND if one[1].startswith("kubectl ")])
def test_kubectl_names_what_the_overlays_make(page: str, command: str) -> None:
    for folder in re.findall(r" -k (\S+)", command):
        assert (ROOT / folder / "kustomization.yaml").is_file() or folder in {"your", "`"}, page
    for short, named in re.findall(r"\b(deployment|statefulset|service|cronjob)/(odea-[a-z-]+[a-z])", command):
        assert (KINDS[short], named) in NAMES, f"{page}: {command}"
    for named in re.findall(r"create secret generic (\S+)", command):
        mentioned = {"odea-gateway", "odea-installer", "odea-operator", "odea-keys", "odea-quota", "odea-synth"}
        assert named in mentioned | {"odea-synth-upstreams", "odea-backup", "odea-admin"}
    for component in re.findall(r"app\.kubernetes\.io/component=(\w+)", command):
        labels = {one["metadata"].get("labels", {}).get("app.kubernetes.io/component") for one in objects("production")}
        assert component in labels


@pytest.mark.parametrize(("page", "command"), [one for one in FOUND if re.match(r"(\./|kubectl )?odea [a-z]", one[1])])
def test_odea_has_the_verb(page: str, command: str) -> None:
    words = shlex.split(command.removeprefix("./").removeprefix("kubectl "), comments=True)[1:]
    verb = cli.commands.get(words[0])
    assert verb is not None, f"{page}: {command}"
    inner = getattr(verb, "commands", {})
    if len(words) > 1 and inner:
        assert words[1] in inner, f"{page}: {command}"


@pytest.mark.parametrize(("page", "command"), [one for one in FOUND if one[1].startswith("just ")])
def test_just_has_the_recipe(page: str, command: str) -> None:
    assert command.split()[1] in RECIPES, page


def test_every_secret_that_is_asked_for_is_made_in_the_instructions() -> None:
    page = (ROOT / "docs/operations/install.md").read_text()
    made = set(re.findall(r"create secret generic (\S+)", page))
    text = (ROOT / "deploy/k8s/README.md").read_text()
    for one in objects("production"):
        for asked in re.findall(r"'secretKeyRef': \{'name': '([\w-]+)'", str(one)):
            assert asked in made
            assert f"`{asked}`" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\((?!http)([^)#\s]*)(#([^)\s]+))?\)", page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{target}#{anchor}"
