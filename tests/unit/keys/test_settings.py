"""The service starts with good settings or names every fault, and shows no secret either way (P6)."""

import pytest

from odea_keys.settings import KeysSettings
from odea_runtime.settings import SettingsError, load

PEPPER = "5e" * 32
GOOD = {
    "ODEA_NATS_URL": "nats://keys:hidden-nats@localhost",
    "ODEA_DATABASE_URL": "postgresql://odea_keys:hidden-database@localhost/odea",
    "ODEA_KEYS_PEPPERS": f"p2:{'a7' * 32},p1:{PEPPER}",
}


def test_the_first_pepper_is_the_newest() -> None:
    assert [pepper.pepper_id for pepper in load(KeysSettings, GOOD).peppers()] == ["p2", "p1"]


def test_no_secret_is_shown() -> None:
    settings = load(KeysSettings, GOOD)
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "hidden" not in shown
        assert PEPPER not in shown


def test_every_fault_is_named_and_no_value() -> None:
    environ = {"ODEA_NATS_URL": "nats://x", "ODEA_KEYS_PEPPERS": f"p1:{PEPPER[:30]},{PEPPER}", "ODEA_TASKS_MAX": "0"}
    with pytest.raises(SettingsError) as caught:
        load(KeysSettings, environ)
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "ODEA_TASKS_MAX",
        "ODEA_DATABASE_URL",
        "ODEA_KEYS_PEPPERS",
    ]
    assert "entry 1 is shorter" in lines[2]
    assert "entry 2 does not begin" in lines[2]
    assert PEPPER[:20] not in str(caught.value)
