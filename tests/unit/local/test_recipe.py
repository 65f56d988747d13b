"""Each service is told what it needs, and nothing that is another's."""

from pathlib import Path

import pytest

from odea_local.credentials import Credentials
from odea_local.folder import DataFolder
from odea_local.leftovers import MARK
from odea_local.ports import Ports
from odea_local.recipe import START_ORDER, Recipe

PORTS = Ports(nats=1, nats_monitor=2, keys_ops=3, quota_ops=4, synth_ops=5, gateway_ops=6, gateway=7)
CREDENTIALS = Credentials()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe.of(DataFolder.at(tmp_path), 8080, PORTS, CREDENTIALS)


@pytest.mark.parametrize(("name", "port"), [("keys", 3), ("quota", 4), ("synth", 5)])
def test_a_service_with_a_database_has_its_own_login(recipe: Recipe, name: str, port: int) -> None:
    environ = recipe.service(name).command.environ
    password = getattr(CREDENTIALS, f"{name}_database")
    assert environ["ODEA_DATABASE_URL"].startswith(f"postgresql://odea_{name}:{password}@/odea?host=/")
    assert environ["ODEA_OPS_ADDRESS"] == f"127.0.0.1:{port}"
    assert environ["ODEA_NATS_URL"] == "nats://127.0.0.1:1"
    assert recipe.migrate(name).environ == environ


def test_each_logs_in_to_the_bus_as_itself(recipe: Recipe) -> None:
    commands = {name: recipe.service(name).command for name in ("keys", "quota", "synth", "gateway")}
    commands |= {"operator": recipe.demo(), "installer": recipe.apply_bus()}
    for user, command in commands.items():
        values = set(command.environ.values())
        assert [name for name in commands if CREDENTIALS.nats_seed(name) in values] == [user]
        assert command.environ["ODEA_NATS_SEED"] == CREDENTIALS.nats_seed(user)


def test_only_keys_gets_the_pepper(recipe: Recipe) -> None:
    holders = [
        name
        for name in ("keys", "quota", "synth", "gateway")
        if CREDENTIALS.keys_pepper in str(sorted(recipe.service(name).command.environ.items()))
    ]
    assert holders == ["keys"]


def test_the_gateway_has_an_address_and_no_database(recipe: Recipe) -> None:
    environ = recipe.service("gateway").command.environ
    assert environ["ODEA_GATEWAY_ADDRESS"] == "127.0.0.1:8080"
    assert "ODEA_DATABASE_URL" not in environ


def test_what_the_user_exports_reaches_the_services_but_does_not_overrule_the_stack(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ODEA_MINIMAX_KEY": "mine",
        "ODEA_LOG_FORMAT": "json",
        "ODEA_NATS_URL": "nats://elsewhere",
        "PGHOST": "elsewhere",
        "PYTHONHOME": "/elsewhere",
    }.items():
        monkeypatch.setenv(name, value)
    environ = recipe.service("synth").command.environ
    assert environ["ODEA_MINIMAX_KEY"] == "mine"
    assert environ["ODEA_LOG_FORMAT"] == "json"
    assert environ["ODEA_NATS_URL"] == recipe.nats.url
    assert not {"PGHOST", "PYTHONHOME"} & set(environ)


def test_no_secret_is_in_an_argument_or_a_repr(recipe: Recipe) -> None:
    services = [recipe.postgres_service(), recipe.nats_service(), *map(recipe.service, START_ORDER[2:])]
    commands = [recipe.demo(), *(service.command for service in services)]
    secrets = [getattr(CREDENTIALS, name) for name in CREDENTIALS.__struct_fields__]
    texts = [*(" ".join(command.argv) for command in commands), repr(recipe), *map(repr, commands)]
    assert not [secret for secret in secrets for text in texts if secret in text]


def test_every_process_but_the_database_carries_the_mark(recipe: Recipe, tmp_path: Path) -> None:
    services = [recipe.nats_service(), *map(recipe.service, START_ORDER[2:])]
    commands = [recipe.demo(), *(service.command for service in services)]
    assert {command.environ[MARK] for command in commands} == {str(tmp_path)}
    assert MARK not in recipe.postgres_service().command.environ


def test_modules_of_the_current_folder_are_never_run(recipe: Recipe) -> None:
    assert recipe.service("keys").command.argv[1:] == ("-P", "-m", "odea_keys", "serve")


def test_statuses_come_in_the_order_of_starting(recipe: Recipe) -> None:
    assert tuple(status.name for status in recipe.statuses()) == START_ORDER
    assert [status.address for status in recipe.statuses()][-1] == "127.0.0.1:8080"
